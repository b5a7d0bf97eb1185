"""Clone and fetch: the listing of refs, and ``git upload-pack``."""

from uuid import UUID

from starlette.requests import Request
from starlette.types import Send

from adapters.repositories.git_process import GitFailed
from api.protocols.git.answers import Answer
from api.protocols.git.bodies import RequestBody
from api.protocols.git.callers import GitCaller
from api.protocols.git.relay import relay
from api.services import Services
from database.engine import Database
from database.store.git import record_fetch
from domain.actors import Actor
from domain.git.pkt_line import FLUSH, LENGTH_SIZE_BYTES, encode
from domain.git.upload_pack import FetchRequestCheck

UPLOAD_PACK = "git-upload-pack"
RECEIVE_PACK = "git-receive-pack"
WANTS_SIZE_BYTES_MAX = 32 * 1024**2
"""A fetch request names commits, 50 bytes each; more than this is no fetch."""
_PACK_SIGN = b"PACK"
_PACK_SIGN_VERSION_2 = b"000dpackfile\n"
"""How a pack begins in protocol version 2 (gitprotocol-v2(5), fetch); ``PACK`` in the older ones."""


async def list_refs(request: Request, send: Send, services: Services, caller: GitCaller, service: str) -> None:
    """Answers ``GET info/refs``; for a project that does not exist yet, as an empty repository would."""
    repositories = services.repositories
    project_id = None
    if caller.project is not None:
        project_id = caller.project.id
        await repositories.ensure(project_id, default_branch=caller.project.default_branch)
    protocol = request.headers.get("git-protocol")
    answer = Answer(send, media_type=f"application/x-{service}-advertisement")
    if not (service == UPLOAD_PACK and _is_version_2(protocol)):
        first = encode(f"# service={service}\n".encode()) + FLUSH
    else:
        first = b""
    process = await repositories.advertise(project_id, service, protocol=protocol)
    try:
        process.close_input()
        while data := await process.read():
            await answer.piece(first + data)
            first = b""
        if await process.wait() != 0:
            raise GitFailed(f"git could not list the refs: {process.complaint or 'no message'}")
        await answer.end()
    finally:
        await process.stop()


async def send_objects(request: Request, send: Send, services: Services, caller: GitCaller) -> None:
    """Answers ``POST git-upload-pack``: a listing of refs (version 2), a round of negotiation, or the pack."""
    if caller.project is None:
        raise AssertionError("reading was allowed, so there is a project")
    project_id = caller.project.id
    repositories = services.repositories
    await repositories.ensure(project_id, default_branch=caller.project.default_branch)
    protocol = request.headers.get("git-protocol")
    body = _FetchBody(request, protocol)
    first = await body.next_piece()
    answer = Answer(send, media_type="application/x-git-upload-pack-result")
    watch = _PackWatch(services.database, caller.actor, project_id, sign=_pack_sign(protocol, first))
    process = repositories.serve_fetch(project_id, protocol=protocol)

    async def take(data: bytes) -> None:
        await watch.see(data)
        await answer.piece(data)

    try:
        code = await relay(process, body, take, before=first)
        if code != 0 and not answer.started:
            raise GitFailed(f"git upload-pack failed: {process.complaint or 'no message'}")
        if code < 0:
            raise GitFailed(f"git upload-pack was killed by signal {-code}; the client sees a broken connection.")
        # With another exit code git has told the client itself why (an ERR packet).
        await answer.end()
    finally:
        await process.stop()


class _FetchBody(RequestBody):
    """A body that is refused as soon as it cannot be a fetch request any more."""

    def __init__(self, request: Request, protocol: str | None) -> None:
        super().__init__(request, size_bytes_max=WANTS_SIZE_BYTES_MAX)
        self._check = FetchRequestCheck(version_2=_is_version_2(protocol))

    async def next_piece(self) -> bytes:
        """See ``RequestBody``."""
        piece = await super().next_piece()
        if piece:
            self._check.feed(piece)
        else:
            self._check.end()
        return piece


class _PackWatch:
    """Writes the audit row of a fetch before the first byte of its pack leaves: once per fetch, however many rounds."""

    def __init__(self, database: Database, actor: Actor, project_id: UUID, *, sign: bytes | None) -> None:
        self._database = database
        self._actor = actor
        self._project_id = project_id
        self._sign = sign
        self._tail = b""

    async def see(self, data: bytes) -> None:
        """Looks at what is about to be sent."""
        if self._sign is None:
            return
        window = self._tail + data
        if self._sign not in window:
            self._tail = window[-len(self._sign) :]
            return
        self._sign = None
        async with self._database.transaction() as session:
            await record_fetch(session, self._actor, self._project_id)


def _is_version_2(protocol: str | None) -> bool:
    return protocol is not None and "version=2" in protocol.split(":")


def _pack_sign(protocol: str | None, request: bytes) -> bytes | None:
    """What to look for in the answer; ``None`` for a command of version 2 that sends no pack (``ls-refs``)."""
    if not _is_version_2(protocol):
        return _PACK_SIGN
    return _PACK_SIGN_VERSION_2 if request[LENGTH_SIZE_BYTES:].startswith(b"command=fetch") else None
