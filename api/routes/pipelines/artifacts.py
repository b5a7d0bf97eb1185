"""Artifacts: the files that steps left."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Annotated
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Header, Request
from starlette.responses import Response

from api.dependencies import ReadAccess, ServicesDep
from api.errors import problems
from api.routes.pipelines.downloads import download
from api.routes.pipelines.ranges import ByteRange, requested_range
from api.routes.pipelines.runs import PREFIX, found_run
from api.routes.pipelines.views import ArtifactList, api_run_url, view_artifact
from api.services import Services
from api.strict_route import StrictRoute
from database.models.pipelines import Artifact
from database.store.pipelines.artifacts import artifact_of, artifacts_of_run
from database.store.pipelines.steps import steps_of
from domain.errors import NotFound

router = APIRouter(prefix=PREFIX + "/{run_id}/artifacts", tags=["pipelines"], route_class=StrictRoute)

BYTES_ANSWER = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


@router.get("", summary="List the artifacts of a run", responses=problems(400, 401, 404))
async def list_artifacts(services: ServicesDep, access: ReadAccess, run_id: UUID) -> ArtifactList:
    """In the order of the steps, then by name."""
    async with services.database.transaction() as session:
        run = await found_run(session, access, run_id)
        names = {step.id: (step.step_order, step.name) for step in await steps_of(session, run.id)}
        artifacts = await artifacts_of_run(session, run.id)
    artifacts = sorted(artifacts, key=lambda artifact: (names[artifact.step_id][0], artifact.name))
    run_url = api_run_url(access.project.full_name, run.id)
    return ArtifactList(
        items=tuple(view_artifact(run_url, names[artifact.step_id][1], artifact) for artifact in artifacts)
    )


@router.get(
    "/{artifact_id}",
    summary="Download an artifact",
    response_class=Response,
    responses={
        200: BYTES_ANSWER,
        206: BYTES_ANSWER,
        304: {"description": "You have it"},
        **problems(400, 401, 404, 416),
    },
)
async def download_artifact(
    *,
    request: Request,
    services: ServicesDep,
    access: ReadAccess,
    run_id: UUID,
    artifact_id: UUID,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The file, as a download; `Range` gives parts, the ETag is the SHA-256 of the content.

    404 with the code `artifact_expired` once its time is over.
    """
    async with services.database.transaction() as session:
        run = await found_run(session, access, run_id)
        artifact = await artifact_of(session, run.id, artifact_id)
    if artifact is None:
        raise NotFound(f"There is no artifact {artifact_id} in run #{run.number}, or it expired and was removed.")
    _refuse_expired(artifact)
    etag = f'"{artifact.sha256}"'
    headers = {"etag": etag, "cache-control": "private, no-cache", "accept-ranges": "bytes"}
    if if_none_match is not None and _names(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    asked = request.headers.get("range")
    if request.headers.get("if-range", etag) != etag:
        asked = None
    wanted = requested_range(asked, artifact.size_bytes)
    headers |= wanted.headers() | _download_headers(artifact)
    return await download(_bytes(services, artifact, wanted), wanted, headers)


def _refuse_expired(artifact: Artifact) -> None:
    if artifact.expires_at is not None and artifact.expires_at <= datetime.now(UTC):
        raise NotFound(
            f"The artifact {artifact.name} expired on {artifact.expires_at:%Y-%m-%d %H:%M} UTC and was removed. "
            "Run the pipeline again to make it anew, and set `expires` in the file to keep it longer.",
            code="artifact_expired",
            details={"expired_at": artifact.expires_at.isoformat()},
        )


def _names(if_none_match: str, etag: str) -> bool:
    """Whether the header (RFC 9110, 13.1.2) names this ETag; weak comparison."""
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return "*" in tags or etag in tags


def _download_headers(artifact: Artifact) -> dict[str, str]:
    """The browser saves the file and never shows or guesses it (RFC 6266 for the name)."""
    name = PurePosixPath(artifact.name).name or "artifact"
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in name)
    return {
        "content-type": artifact.content_type or "application/octet-stream",
        "content-disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
    }


async def _bytes(services: Services, artifact: Artifact, wanted: ByteRange) -> AsyncGenerator[bytes, None]:
    if wanted.size_bytes:
        stream = services.objects.stream(artifact.minio_path, offset=wanted.offset, size_bytes=wanted.size_bytes)
        async for data in stream:
            yield data
