"""Every activity: for whom it acts. To be read by a person whenever it changes.

What acts for somebody asks the verdict again, with that permission on the project; ``test_activities.py`` takes the
right away before each of them. What acts for the platform alone gets no actor, and here says what it does instead.
"""

from domain.access.permissions import Permission

ACTING_FOR_SOMEBODY: dict[str, Permission] = {
    "prepare_run": Permission.PIPELINE_RUN,
    "run_step": Permission.PIPELINE_RUN,
    "settle_push": Permission.PIPELINE_RUN,
}

THE_PLATFORMS_OWN: dict[str, str] = {
    "expire": "removes what is past its date",
    "finish_run": "records an end and cleans up, which must happen also when the right is gone",
    "maintain_repositories": "repacks repositories",
    "make_checkpoint": "signs where the audit log stands",
    "publish_checkpoints": "keeps signatures of the audit log outside the database",
    "remove_leftovers": "removes what ended runs left on this host",
    "rotate_signing_keys": "exchanges the platform's own keys by the clock",
    "runs_to_repair": "finds runs whose workflow is missing; starting them asks again",
    "send_mail": "tells somebody about their own account; looks again whether it is in use and the link is good",
    "set_waiting_for": "says what a run waits for",
    "skip_steps": "records what will not run",
    "stop_run": "kills sandboxes, which must happen also when the right is gone",
    "sweep_pushes": "finds pushes that nobody settled; settling them asks again",
    "unsent_mails": "finds mails that were not sent; sending them looks again",
}
