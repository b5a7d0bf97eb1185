from cli.protections import missing_protections
from tests.support.api import listening_socket
from worker.health import STARTING, health_endpoint
from worker.main import Status


async def test_a_worker_that_is_away_is_said_to_be() -> None:
    with listening_socket() as nobody:
        (line,) = await missing_protections(f"127.0.0.1:{nobody.getsockname()[1]}")
    assert "does not answer" in line


async def test_what_the_worker_found_missing_is_named() -> None:
    status = Status()
    status.missing_protections = ["cgroups: not available on this host"]
    assert status.report()["status"] == STARTING
    async with health_endpoint(0, status.report) as port:
        assert await missing_protections(f"127.0.0.1:{port}") == ["cgroups: not available on this host"]
