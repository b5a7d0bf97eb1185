"""Listing and fetching artifacts over HTTP."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from adapters.objects.base import artifact_key
from database.models.pipelines import Artifact
from domain.projects import ProjectView
from tests.support.api import ApiServer, Person
from tests.support.pipelines import make_run, step_named

CONTENT = bytes(range(256)) * 8


@dataclass(frozen=True)
class Kept:
    """A run with one artifact of ``CONTENT``."""

    server: ApiServer
    person: Person
    project: ProjectView
    run_id: UUID
    artifact_id: UUID

    @property
    def list_path(self) -> str:
        return f"/api/v1/projects/{self.project.full_name}/pipelines/{self.run_id}/artifacts"

    async def get(self, **headers: str) -> httpx.Response:
        sent = {**self.person.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return await self.server.client.get(f"{self.list_path}/{self.artifact_id}", headers=sent)


async def keep(server: ApiServer, *, name: str = "dist/app.tar", expires_in: timedelta | None = None) -> Kept:
    person = await server.user()
    project = await server.project(person)
    database = server.services.database
    run = await make_run(database, project, person.user)
    step = await step_named(database, run.run_id, "build")
    artifact_id = uuid4()
    key = artifact_key(project.id, run.run_id, artifact_id, hashlib.sha256(CONTENT).hexdigest())
    await server.services.objects.put(key, CONTENT)
    async with server.transaction() as session:
        session.add(
            Artifact(
                id=artifact_id,
                pipeline_id=run.run_id,
                step_id=step.id,
                name=name,
                minio_path=key,
                content_type="text/html",
                size_bytes=len(CONTENT),
                sha256=hashlib.sha256(CONTENT).hexdigest(),
                expires_at=None if expires_in is None else datetime.now(UTC) + expires_in,
            )
        )
    return Kept(server, person, project, run.run_id, artifact_id)


async def test_an_artifact_of_another_run_is_not_found(api_server: ApiServer) -> None:
    kept = await keep(api_server)
    other = await make_run(api_server.services.database, kept.project, kept.person.user)
    path = kept.list_path.replace(str(kept.run_id), str(other.run_id))
    answer = await api_server.client.get(f"{path}/{kept.artifact_id}", headers=kept.person.headers)
    assert answer.status_code == 404


async def test_an_expired_artifact_says_so(api_server: ApiServer) -> None:
    kept = await keep(api_server, expires_in=timedelta(seconds=-1))
    answer = await kept.get()
    assert answer.status_code == 404
    assert answer.json()["code"] == "artifact_expired"
    listed = (await api_server.client.get(kept.list_path, headers=kept.person.headers)).json()
    assert listed["items"][0]["expired"] is True


async def test_is_listed_with_size_and_hash(api_server: ApiServer) -> None:
    kept = await keep(api_server, expires_in=timedelta(days=1))
    (item,) = (await api_server.client.get(kept.list_path, headers=kept.person.headers)).json()["items"]
    assert (item["step"], item["name"], item["size_bytes"]) == ("build", "dist/app.tar", len(CONTENT))
    assert item["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert item["url"] == f"{kept.list_path}/{kept.artifact_id}"
    assert item["expired"] is False


async def test_is_saved_by_a_browser_and_never_shown(api_server: ApiServer) -> None:
    kept = await keep(api_server, name='out/ä"\\b.html')
    answer = await kept.get()
    assert answer.content == CONTENT
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"___b.html\"; filename*=UTF-8''%C3%A4%22%5Cb.html"
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("header", "part", "content_range"),
    [
        ("bytes=0-9", CONTENT[:10], "bytes 0-9/2048"),
        ("bytes=2000-", CONTENT[2000:], "bytes 2000-2047/2048"),
        ("bytes=-1", CONTENT[-1:], "bytes 2047-2047/2048"),
    ],
)
async def test_gives_ranges(api_server: ApiServer, header: str, part: bytes, content_range: str) -> None:
    answer = await (await keep(api_server)).get(range=header)
    assert (answer.status_code, answer.content, answer.headers["content-range"]) == (206, part, content_range)


async def test_a_range_beyond_the_end_is_416(api_server: ApiServer) -> None:
    assert (await (await keep(api_server)).get(range="bytes=2048-")).status_code == 416


async def test_answers_304_to_who_has_it(api_server: ApiServer) -> None:
    kept = await keep(api_server)
    etag = (await kept.get()).headers["etag"]
    for condition in (etag, f'"other", W/{etag}', "*"):
        answer = await kept.get(if_none_match=condition)
        assert (answer.status_code, answer.content) == (304, b""), condition
    assert (await kept.get(if_none_match='"other"')).status_code == 200


async def test_a_range_of_another_version_gives_all(api_server: ApiServer) -> None:
    kept = await keep(api_server)
    assert (await kept.get(range="bytes=0-1", if_range='"old"')).status_code == 200
    etag = (await kept.get()).headers["etag"]
    assert (await kept.get(range="bytes=0-1", if_range=etag)).status_code == 206
