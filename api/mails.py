"""After the commit of a mail's row: its workflow is started; if it cannot be, the repair schedule does it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from api.services import Services
from database.engine import Session
from database.store.access.notices import ordered_notices
from domain.access.mails import SendMailInput
from domain.ids import mail_workflow_id
from temporal.names import ORCHESTRATION_QUEUE, SEND_MAIL_WORKFLOW, Kind, search_attributes

# A healthy server answers in milliseconds, and nobody's answer depends on this.
TEMPORAL_TIMEOUT = timedelta(seconds=3)

_log = logging.getLogger(__name__)


@asynccontextmanager
async def mailing(services: Services) -> AsyncIterator[Session]:
    """A transaction that may change what protects an account: notices of it are on their way after the commit."""
    async with services.database.transaction() as session:
        yield session
        ordered = ordered_notices(session)
    await asyncio.gather(*(start_mail(services, notice_id) for notice_id in ordered))


async def start_mail(services: Services, mail_id: UUID) -> None:
    """Has a committed mail (``database.store.access.mails``) sent. Never raises for Temporal being away."""
    try:
        await services.temporal.start_workflow(
            SEND_MAIL_WORKFLOW,
            SendMailInput(mail_id=mail_id),
            id=mail_workflow_id(mail_id),
            task_queue=ORCHESTRATION_QUEUE,
            search_attributes=search_attributes(Kind.MAIL),
            rpc_timeout=TEMPORAL_TIMEOUT,
        )
    except WorkflowAlreadyStartedError:
        return
    except (RPCError, RuntimeError) as error:  # RuntimeError is how a client that connects late says: unreachable.
        _log.warning("mail %s waits for the repair schedule: %s", mail_id, error)
