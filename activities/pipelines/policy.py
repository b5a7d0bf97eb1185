"""The operator's policy for steps: what a step gets, whatever its file says."""

from dataclasses import dataclass

from adapters.sandbox.base import SandboxLimits
from database.models.pipelines import Pipeline
from domain.git.refs import branch_of, tag_of
from domain.pipelines.plan import PlannedStep


@dataclass(frozen=True, slots=True)
class StepPolicy:
    """Limits of every step, and the projects (``owner/name``) whose steps get network."""

    limits: SandboxLimits
    network_projects: frozenset[str]
    public_url: str

    def limits_for(self, step: PlannedStep) -> SandboxLimits:
        """The operator's limits with the step's own timeout."""
        return self.limits.model_copy(update={"wall_seconds": step.timeout_seconds})

    def env_for(self, project: str, run: Pipeline, step: PlannedStep, attempt: int) -> dict[str, str]:
        """What a step finds in its environment: the facts of the run, then what the file says."""
        ref = run.git_ref
        facts = {
            "CI": "true",
            "PERDURE": "true",
            "PERDURE_ATTEMPT": str(attempt),
            "PERDURE_BRANCH": branch_of(ref) or "",
            "PERDURE_COMMIT_SHA": run.commit_sha or "",
            "PERDURE_EVENT": run.trigger,
            "PERDURE_PIPELINE": run.name,
            "PERDURE_PROJECT": project,
            "PERDURE_REF": ref,
            "PERDURE_RUN_ID": str(run.id),
            "PERDURE_RUN_NUMBER": str(run.number),
            "PERDURE_RUN_URL": f"{self.public_url}/{project}/pipelines/{run.id}",
            "PERDURE_STEP": step.name,
            "PERDURE_TAG": tag_of(ref) or "",
        }
        return {**step.env, **facts}
