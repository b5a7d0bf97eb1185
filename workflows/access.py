"""Mails with links, sent once their row is committed, whatever crashes in between; keys exchanged by the clock."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from activities.access.mails import MailActivities
from activities.access.signing_keys import SigningKeyActivities
from domain.access.mails import SendMailInput
from domain.ids import mail_workflow_id
from temporal.names import REPAIR_MAILS_WORKFLOW, ROTATE_SIGNING_KEYS_WORKFLOW, SEND_MAIL_WORKFLOW

# Until it works or the link has expired, which the activity finds out.
UNTIL_SENT = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=5))


@workflow.defn(name=SEND_MAIL_WORKFLOW)
class SendMailWorkflow:
    """Sends one mail. It is told which, never what it says: the link is derived when it is sent."""

    @workflow.run
    async def run(self, order: SendMailInput) -> None:
        """Returns when it was handed over, or need not be any more."""
        await workflow.execute_activity_method(
            MailActivities.send_mail,
            order,
            start_to_close_timeout=timedelta(minutes=1),  # a mail server that greets slowly; a file takes milliseconds
            retry_policy=UNTIL_SENT,
        )


@workflow.defn(name=REPAIR_MAILS_WORKFLOW)
class RepairMailsWorkflow:
    """Starts what a crash between commit and start left behind. Takes no input."""

    @workflow.run
    async def run(self) -> None:
        """One round."""
        found = await workflow.execute_activity_method(
            MailActivities.unsent_mails,
            start_to_close_timeout=timedelta(minutes=1),
            retry_policy=RetryPolicy(maximum_attempts=3),  # the schedule comes again
        )
        for mail_id in found.mail_ids:
            try:
                await workflow.start_child_workflow(
                    SendMailWorkflow.run,
                    SendMailInput(mail_id=mail_id),
                    id=mail_workflow_id(mail_id),
                    parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                )
            except WorkflowAlreadyStartedError:
                workflow.logger.info("mail %s is being sent already", mail_id)


@workflow.defn(name=ROTATE_SIGNING_KEYS_WORKFLOW)
class RotateSigningKeysWorkflow:
    """Keeps a key of ours that signs, and the next one published in time. Takes no input."""

    @workflow.run
    async def run(self) -> None:
        """One look at the keys."""
        await workflow.execute_activity_method(
            SigningKeyActivities.rotate_signing_keys,
            start_to_close_timeout=timedelta(minutes=1),  # an RSA key takes some tenths of a second to make
            retry_policy=RetryPolicy(maximum_attempts=5),  # the schedule comes again
        )
