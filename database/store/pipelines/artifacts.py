"""Artifacts: recorded once their objects are stored, forgotten once these are gone."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from database.models.pipelines import Artifact


@dataclass(frozen=True, slots=True)
class NewArtifact:
    """A stored object that is to be an artifact.

    Attributes:
        expires_seconds: From now, by the database's clock.
    """

    name: str
    object_key: str
    content_type: str | None
    size_bytes: int
    sha256: str
    expires_seconds: int


def artifact_id(step_id: UUID, name: str) -> UUID:
    """The id of an artifact, the same however often it is collected (RFC 9562, version 5)."""
    return uuid5(step_id, name)


async def record_artifacts(
    session: AsyncSession, run_id: UUID, step_id: UUID, artifacts: Sequence[NewArtifact]
) -> list[str]:
    """Makes the rows of a step's artifacts; those of an earlier attempt with the same name are replaced.

    Returns:
        Keys of objects that no row refers to any more.
    """
    if not artifacts:
        return []
    before = {artifact.name: artifact.minio_path for artifact in await artifacts_of_step(session, step_id)}
    for new in artifacts:
        values = {
            "minio_path": new.object_key,
            "content_type": new.content_type,
            "size_bytes": new.size_bytes,
            "sha256": new.sha256,
            "expires_at": func.now() + func.make_interval(0, 0, 0, 0, 0, 0, new.expires_seconds),
        }
        statement = insert(Artifact).values(
            id=artifact_id(step_id, new.name), pipeline_id=run_id, step_id=step_id, name=new.name, **values
        )
        await session.execute(
            statement.on_conflict_do_update(
                index_elements=["step_id", "name"], set_=values, where=col(Artifact.sha256) != new.sha256
            )
        )
    return [before[new.name] for new in artifacts if new.name in before and before[new.name] != new.object_key]


async def artifacts_of_step(session: AsyncSession, step_id: UUID) -> list[Artifact]:
    """What a step has left, by name."""
    query = select(Artifact).where(col(Artifact.step_id) == step_id).order_by(col(Artifact.name))
    return list((await session.scalars(query)).all())


async def artifacts_of_run(session: AsyncSession, run_id: UUID) -> list[Artifact]:
    """What all steps of a run have left, by name; expired ones included until they are removed."""
    query = select(Artifact).where(col(Artifact.pipeline_id) == run_id).order_by(col(Artifact.name), col(Artifact.id))
    return list((await session.scalars(query)).all())


async def artifact_of(session: AsyncSession, run_id: UUID, wanted: UUID) -> Artifact | None:
    """One artifact of a run; whether it has expired tells its ``expires_at``."""
    query = select(Artifact).where(col(Artifact.pipeline_id) == run_id, col(Artifact.id) == wanted)
    return (await session.scalars(query)).one_or_none()


async def expired_artifacts(session: AsyncSession, *, grace_seconds: float, limit: int) -> list[Artifact]:
    """Artifacts whose time was over ``grace_seconds`` ago, the oldest first.

    Since then nobody was given a new download; the grace is for those under way.
    """
    over = col(Artifact.expires_at) < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, grace_seconds)
    query = select(Artifact).where(over).order_by(col(Artifact.expires_at)).limit(limit)
    return list((await session.scalars(query)).all())


async def forget_artifacts(session: AsyncSession, artifacts: Collection[Artifact]) -> None:
    """Deletes rows whose objects are gone, unless they were recorded anew meanwhile."""
    for artifact in artifacts:
        await session.execute(
            delete(Artifact).where(col(Artifact.id) == artifact.id, col(Artifact.expires_at) == artifact.expires_at)
        )
