"""Push: the head is judged, the outbox row is written, ``git receive-pack`` runs, and the pusher is told what started.

The order is promise D1: the push's lock, then its row (committed), then git. Whoever finds the row later and gets the
lock knows that git has ended, and git's own reflog says what it did.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from starlette.requests import Request
from starlette.types import Send

from adapters.repositories.base import GitStream, PushLock
from api.protocols.git.answers import Answer
from api.protocols.git.bodies import ClientGone, RequestBody
from api.protocols.git.callers import GitCaller
from api.protocols.git.relay import relay
from api.protocols.git.settling import note_what_will_vanish, settle
from api.services import Services
from database.store import git as store
from database.store.projects import NewProject, create_project
from domain.actors import Actor
from domain.errors import InvalidInput, PerdureError, Unavailable
from domain.git.pkt_line import FLUSH
from domain.git.receive_pack import (
    HEAD_SIZE_BYTES_MAX,
    AnswerTap,
    PushHead,
    PushHeadReader,
    protected_refs,
    refusal_answer,
    refusals,
)
from domain.git.refs import branch_of
from domain.projects import ProjectView

MEDIA_TYPE = "application/x-git-receive-pack-result"


async def take_push(request: Request, send: Send, services: Services, caller: GitCaller) -> None:
    """Answers ``POST git-receive-pack``. What is refused is told per ref, so that git prints the reason."""
    # Git itself stops at the limit of the pack (receive.maxInputSize) and says so; this one only has to be above it.
    body = RequestBody(request, size_bytes_max=services.limits.push_size_bytes_max + 2 * HEAD_SIZE_BYTES_MAX)
    answer = Answer(send, media_type=MEDIA_TYPE)
    reader = PushHeadReader()
    head = await _read_head(body, reader)
    if not head.updates:
        # The probe with which git tries its credentials before a long body: a flush and nothing else.
        if reader.taken != FLUSH or await body.next_piece():
            raise InvalidInput("Not a push: no ref is named, but something follows. Nothing was changed.")
        await answer.end()
        return
    try:
        project = await _project_for(head, services, caller)
    except _Refused as refused:
        await body.drain()
        await answer.end(refusal_answer(head, refused.reasons))
        return
    push_id = uuid4()
    lock = services.repositories.lock_push(push_id)
    if lock is None:
        raise AssertionError("nobody else knows this id")
    try:
        async with services.database.transaction() as session:
            await store.open_push(
                session,
                caller.actor,
                push_id,
                project.id,
                updates=head.updates,
                push_options=head.push_options,
            )
        await _Reception(services, caller.actor, project, push_id, lock, head).run(reader.taken, body, answer)
    finally:
        lock.close()


class _Refused(Exception):
    """The push will not be handed to git; the reasons per ref are for the pusher."""

    def __init__(self, reasons: dict[str, str]) -> None:
        super().__init__("refused")
        self.reasons = reasons


async def _read_head(body: RequestBody, reader: PushHeadReader) -> PushHead:
    while piece := await body.next_piece():
        head = reader.feed(piece)
        if head is not None:
            return head
    raise InvalidInput("The push ends before its list of refs does; nothing was changed. Push again.")


async def _project_for(head: PushHead, services: Services, caller: GitCaller) -> ProjectView:
    """The project, made now if it is new, when nothing that can be known before the pack speaks against the push.

    Raises:
        _Refused: Something does; an audit row tells of it.
        Unavailable: The database does not answer.
    """
    default_branch = caller.project.default_branch if caller.project else _first_branch(head)
    reasons = refusals(head.updates, default_branch=default_branch)
    if not reasons:
        try:
            project = caller.project or await _create(services, caller, default_branch)
            await services.repositories.ensure(project.id, default_branch=project.default_branch)
            reasons = await note_what_will_vanish(services, project.id, head.updates)
        except Unavailable:
            raise
        except PerdureError as error:
            reasons = {head.updates[0].ref: error.message}
    if reasons:
        project_id = caller.project.id if caller.project else None
        async with services.database.transaction() as session:
            await store.record_refused_push(session, caller.actor, project_id, reasons=reasons)
        raise _Refused(reasons)
    return project


async def _create(services: Services, caller: GitCaller, default_branch: str) -> ProjectView:
    async with services.database.transaction() as session:
        new = NewProject(name=caller.name, default_branch=default_branch)
        return await create_project(session, caller.actor, caller.owner, new)


def _first_branch(head: PushHead) -> str:
    """What a new project's default branch is called: ``main`` or ``master`` if pushed, else the first branch."""
    pushed = [branch for update in head.updates if (branch := branch_of(update.ref)) and not update.deletes]
    return next((name for name in ("main", "master") if name in pushed), pushed[0] if pushed else "main")


@dataclass(frozen=True, slots=True)
class _Reception:
    """A push whose row is written: git may now see it."""

    services: Services
    actor: Actor
    project: ProjectView
    push_id: UUID
    lock: PushLock
    head: PushHead

    async def run(self, taken: bytes, body: RequestBody, answer: Answer) -> None:
        """Lets git work, settles, and answers.

        Args:
            taken: What was read of the body so far.
        """
        tap = AnswerTap(self.head)
        process = self.services.repositories.serve_push(
            self.project.id,
            push_id=self.push_id,
            lock=self.lock,
            protected_refs=protected_refs(self.project.default_branch),
        )

        async def take(data: bytes) -> None:
            await answer.piece(tap.pass_on(data))

        try:
            code = await relay(process, body, take, before=taken)
        except (ClientGone, PerdureError):
            # Nobody listens any more, or nobody should; what git did until then counts all the same.
            await process.stop()
            await self._settle()
            raise
        finally:
            await process.stop()
        notes = await self._settle()
        if code != 0 and not answer.started:
            reason = {self.head.updates[0].ref: _last_line(process)}
            await answer.end(refusal_answer(self.head, reason, notes=notes))
            return
        await answer.end(tap.end(notes))

    async def _settle(self) -> list[str]:
        return await settle(self.services, self.actor, self.project, self.push_id, self.lock)


def _last_line(process: GitStream) -> str:
    lines: Sequence[str] = process.complaint.splitlines() or ["git ended without a word"]
    return lines[-1]
