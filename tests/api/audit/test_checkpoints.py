"""Checkpoints over HTTP and on their page: made on demand by the real workflow, and shown where they are."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from temporalio.testing import ActivityEnvironment

from activities.audit import AuditActivities
from adapters.objects.base import checkpoint_key
from adapters.objects.memory import MemoryObjects
from adapters.signing.ed25519 import SigningKey
from api import checkpoints as checkpoints_module
from api.csrf import csrf_token
from database.engine import Database
from deploy.local.temporal import Temporal
from domain.audit.checkpoints import statement_hash
from temporal.client import connect
from temporal.names import ORCHESTRATION_QUEUE
from temporal.namespace import ensure_namespace
from tests.support.api import (
    ApiServer,
    Person,
    listening_socket,
    services_for_tests,
    serving,
    url_of,
)
from tests.support.audit import AUDIT_KEYS, SIGNING_KEY
from tests.support.factories import make_session
from tests.support.git_server import api_without_temporal
from tests.support.stack import Stack, TestDatabase
from tests.support.temporal import working
from workflows.audit import AuditCheckpointWorkflow

HERE = "/api/v1/audit/checkpoints"


@pytest.fixture
async def server(idle_stack: Stack, migrated: TestDatabase, tmp_path: Path) -> AsyncIterator[ApiServer]:
    """An installation of its own, without Temporal."""
    async with api_without_temporal(idle_stack, migrated, tmp_path) as running:
        yield running


@pytest.fixture
async def auditor(server: ApiServer) -> Person:
    return await server.user(role="admin")


@asynccontextmanager
async def worker(temporal: Temporal, server: ApiServer) -> AsyncIterator[None]:
    converter = server.services.temporal.data_converter
    client = await connect(temporal.address, temporal.namespace, converter, program="test")
    activities = AuditActivities(server.services.database, server.services.objects, SIGNING_KEY)
    served = [activities.make_checkpoint, activities.publish_checkpoints]
    async with working(client, workflows=[AuditCheckpointWorkflow], activities=served, queues=[ORCHESTRATION_QUEUE]):
        yield


@pytest.fixture
async def with_temporal(
    idle_stack: Stack, temporal_server: Temporal, migrated: TestDatabase, tmp_path: Path
) -> AsyncIterator[ApiServer]:
    """The same with Temporal, and no worker yet."""
    del temporal_server
    listening = listening_socket()
    async with Database(migrated.url, audit_keys=AUDIT_KEYS) as database:
        services = await services_for_tests(idle_stack, database, tmp_path, url_of(listening))
        await ensure_namespace(services.temporal)
        async with serving(services, listening) as running:
            yield running


async def made(server: ApiServer, key: SigningKey = SIGNING_KEY, *, publish: bool = True) -> None:
    activities = AuditActivities(server.services.database, server.services.objects, key)
    await ActivityEnvironment().run(activities.make_checkpoint)
    if publish:
        await ActivityEnvironment().run(activities.publish_checkpoints)


async def listed(server: ApiServer, person: Person, query: str = "") -> dict[str, Any]:
    answer = await server.client.get(f"{HERE}{query}", headers=person.headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def order(
    server: ApiServer, person: Person, path: str = HERE, *, key: str | None = None, html: bool = False
) -> httpx.Response:
    """As somebody at a browser who has just signed in."""
    async with server.transaction() as session:
        session_id, secret = await make_session(session, person.user)
    headers = {
        "cookie": f"perdure_session={secret}",
        "x-csrf-token": csrf_token(server.services.secret_key, session_id),
        **({"idempotency-key": key} if key else {}),
        **({"accept": "text/html"} if html else {}),
    }
    return await server.client.post(path, headers=headers)


async def test_what_is_no_checkpoint_is_not_found(server: ApiServer, auditor: Person) -> None:
    for number, status in (("0", 400), ("-1", 400), ("one", 400), (str(2**63), 400), ("1", 404), (str(2**63 - 1), 404)):
        answer = await server.client.get(f"{HERE}/{number}", headers=auditor.headers)
        assert answer.status_code == status, number
    assert (await server.client.get(f"{HERE}?cursor=AAAA", headers=auditor.headers)).status_code == 400


async def test_an_empty_log_has_none_and_the_pages_say_so(server: ApiServer, auditor: Person) -> None:
    assert await listed(server, auditor) == {"items": [], "next": None}
    for path in ("/audit", "/audit/checkpoints"):
        page = await server.client.get(path, headers=auditor.headers)
        assert "No checkpoint yet" in page.text


async def test_each_is_listed_with_where_it_is(server: ApiServer, auditor: Person) -> None:
    for publish in (True, True, False):
        await server.project(auditor)
        await made(server, publish=publish)
    page = await listed(server, auditor, "?limit=2")
    items = page["items"]
    assert [(item["number"], item["state"]) for item in items] == [(3, "waiting"), (2, "published")]
    assert (items[0]["rows"], items[0]["rows_in_all"] - items[1]["rows_in_all"]) == (1, 1)
    [last] = (await server.client.get(page["next"], headers=auditor.headers)).json()["items"]
    assert (last["number"], last["state"], last["key_id"]) == (1, "published", SIGNING_KEY.public.id)
    # One that was taken out of the store is seen.
    await server.services.objects.delete([checkpoint_key(1)])
    assert [item["state"] for item in (await listed(server, auditor))["items"]] == ["waiting", "published", "waiting"]


async def test_one_can_be_kept_and_checked_elsewhere(server: ApiServer, auditor: Person) -> None:
    await made(server)
    shown = (await server.client.get(f"{HERE}/1", headers=auditor.headers)).json()
    assert SIGNING_KEY.public.is_signed(shown["statement"].encode(), bytes.fromhex(shown["signature"]))
    assert shown["hash"] == statement_hash(shown["statement"])


async def test_a_store_that_is_away_hides_nothing_else(server: ApiServer, auditor: Person) -> None:
    await made(server)
    assert isinstance(server.services.objects, MemoryObjects)
    server.services.objects.is_away = True
    [item] = (await listed(server, auditor))["items"]
    assert (item["number"], item["state"]) == (1, "unknown")
    assert "the object store does not answer" in (await server.client.get("/audit", headers=auditor.headers)).text


@pytest.mark.parametrize("statement", ["nonsense", '{"v":1}', None])
async def test_what_only_says_that_it_is_one_is_called_forged(
    server: ApiServer, auditor: Person, migrated: TestDatabase, statement: str | None
) -> None:
    """The serving role can put a row into the table; it cannot sign it, and no checkpoint is made on top of it."""
    await made(server)
    connection = await asyncpg.connect(migrated.url.replace("+asyncpg", ""))
    try:
        if statement is None:
            genuine: str = await connection.fetchval("SELECT statement FROM audit_checkpoints")
            statement = genuine.replace('"number":1', '"number":2')
        await connection.execute("INSERT INTO audit_checkpoints VALUES (2, $1, $2)", statement, bytes(64))
    finally:
        await connection.close()
    assert [item["state"] for item in (await listed(server, auditor))["items"]] == ["forged", "published"]
    assert "forged" in (await server.client.get("/audit/checkpoints", headers=auditor.headers)).text
    with pytest.raises(Exception, match="tampered"):
        await made(server)


async def test_who_may_not_is_refused(server: ApiServer) -> None:
    developer, viewer = await server.user(), await server.user(role="viewer")
    for person in (developer, viewer):
        refused = await server.client.get(HERE, headers=person.headers)
        assert (refused.status_code, refused.json()["details"]["permission"]) == (403, "audit:read")
        refused = await order(server, person)
        assert (refused.status_code, refused.json()["details"]["permission"]) == (403, "audit:export")


async def test_with_temporal_away_nothing_is_begun_and_that_is_said(server: ApiServer, auditor: Person) -> None:
    answer = await order(server, auditor)
    assert (answer.status_code, answer.json()["details"]) == (503, {"neighbour": "temporal"})
    assert answer.headers["retry-after"]
    assert await listed(server, auditor) == {"items": [], "next": None}


async def test_one_is_made_on_demand_and_only_once_for_a_key(
    with_temporal: ApiServer, temporal_server: Temporal
) -> None:
    server, auditor = with_temporal, await with_temporal.user(role="admin")
    async with worker(temporal_server, server):
        first = await order(server, auditor, key="maintenance")
        again = await order(server, auditor, key="maintenance")
        other = await order(server, auditor)
        by_form = await order(server, auditor, "/audit/checkpoints", html=True)
    assert (first.status_code, again.status_code) == (201, 201), first.text
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert (first.json()["checkpoint"]["number"], first.json()["checkpoint"]["state"]) == (1, "published")
    assert first.json()["workflow_id"].startswith("audit-checkpoint/")
    assert other.json()["checkpoint"]["number"] == 2
    assert (by_form.status_code, by_form.headers["location"]) == (303, "/audit/checkpoints")
    assert [item["number"] for item in (await listed(server, auditor))["items"]] == [3, 2, 1]
    page = await server.client.get("/audit", headers=auditor.headers)
    assert "Checkpoint 3" in page.text
    acts = await server.client.get("/api/v1/audit?action=audit:checkpoint", headers=auditor.headers)
    assert [item["outcome"] for item in acts.json()["items"]] == ["success"] * 3


async def test_one_that_takes_long_is_told_as_under_way(
    with_temporal: ApiServer, temporal_server: Temporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, auditor = with_temporal, await with_temporal.user(role="admin")
    monkeypatch.setattr(checkpoints_module, "MADE_TIMEOUT_SECONDS", 0.2)
    answer = await order(server, auditor)
    assert (answer.status_code, answer.json()["checkpoint"]) == (202, None)
    page = await order(server, auditor, "/audit/checkpoints", html=True)
    assert page.status_code == 202
    assert "is being made" in page.text
    async with worker(temporal_server, server):
        await server.services.temporal.get_workflow_handle(answer.json()["workflow_id"]).result()
    assert (await listed(server, auditor))["items"][-1]["state"] == "published"


async def test_a_log_that_was_tampered_with_is_told_instead_of_signed(
    with_temporal: ApiServer, temporal_server: Temporal, migrated: TestDatabase
) -> None:
    server, auditor = with_temporal, await with_temporal.user(role="admin")
    for _ in range(3):
        await server.project(auditor)
    owner = await asyncpg.connect(migrated.owner_url.replace("+asyncpg", ""))
    try:
        await owner.execute("ALTER TABLE audit_log DISABLE TRIGGER USER")
        await owner.execute("DELETE FROM audit_log WHERE id = (SELECT id FROM audit_log ORDER BY created_at LIMIT 1)")
        await owner.execute("ALTER TABLE audit_log ENABLE TRIGGER USER")
    finally:
        await owner.close()
    async with worker(temporal_server, server):
        answer = await order(server, auditor)
        page = await order(server, auditor, "/audit/checkpoints", html=True)
    assert (answer.status_code, answer.json()["code"]) == (409, "audit_log_damaged")
    assert "tampered" in answer.json()["detail"]
    assert page.status_code == 409
    assert "tampered" in page.text
