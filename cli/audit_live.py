"""What `perdure audit` does with an installation: its database, its object store, and Temporal."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import uuid4

import click
from temporalio.client import WorkflowFailureError

from adapters.objects.base import Objects, checkpoint_key
from adapters.objects.s3 import S3Objects
from adapters.signing.ed25519 import PublicKey, SigningKey
from cli.audit import any_of
from cli.installed import installed_settings, outcome_of
from database.engine import Database
from database.store.audit import record
from database.store.audit_checkpoints import StoredCheckpoint, all_checkpoints, heads_of
from database.store.audit_keys import AuditKeys
from database.store.audit_rows import stored_rows, stray_rows
from domain.actors import SYSTEM
from domain.audit.actions import AuditAction
from domain.audit.chain import Problem, Tampering
from domain.audit.checkpoints import Checkpoint, CheckSignature, Head, SignedCheckpoint, read_statement
from domain.audit.export_file import Header, end_line, row_line
from domain.audit.messages import MadeCheckpoint
from domain.audit.verification import Noted, Report, Verification
from domain.ids import audit_checkpoint_workflow_id
from settings.values import Settings
from temporal.client import connect, translated_errors
from temporal.codec import PayloadKeys
from temporal.converter import data_converter
from temporal.names import AUDIT_CHECKPOINT_WORKFLOW, ORCHESTRATION_QUEUE, Kind, search_attributes

# A whole log may be read; each transaction is one batch of it.
TRANSACTION_TIMEOUT_SECONDS = 60.0


def show_key() -> None:
    """Prints the public key."""
    public = SigningKey(installed_settings().audit.signing_seed()).public
    print(public.text)


@asynccontextmanager
async def _neighbours(settings: Settings) -> AsyncIterator[tuple[Database, Objects]]:
    objects = S3Objects(
        settings.objects.endpoint,
        access_key=settings.objects.access_key,
        secret_key=settings.objects.secret_key.get_secret_value(),
        bucket=settings.objects.bucket,
        secure=settings.objects.secure,
        region=settings.objects.region,
    )
    database = Database(
        settings.database.url.get_secret_value(),
        pool_size=1,
        timeout_seconds=TRANSACTION_TIMEOUT_SECONDS,
        audit_keys=AuditKeys(settings.audit.secret()),
    )
    try:
        yield database, objects
    finally:
        await database.close()
        await objects.close()


async def kept_checkpoints(objects: Objects) -> list[SignedCheckpoint]:
    """What the object store has, in order.

    Raises:
        ClickException: One of them is something else.
    """
    found = []
    for key in sorted(await objects.list_keys(checkpoint_key())):
        try:
            found.append(SignedCheckpoint.from_json(await objects.get(key)))
        except ValueError as error:
            raise click.ClickException(f"The object {key} is no checkpoint: {error}.") from error
    return found


def verify(keys: list[PublicKey], noted: list[Noted]) -> Report:
    """Checks the live log; with the installation's own key where none is given."""
    settings = installed_settings()
    trusted = keys or [SigningKey(settings.audit.signing_seed()).public]

    async def work() -> Report:
        async with _neighbours(settings) as (database, objects):
            return await verify_live(database, objects, any_of(trusted), noted=noted)

    return outcome_of(work())


async def verify_live(
    database: Database, objects: Objects, check_signature: CheckSignature, *, noted: Sequence[Noted] = ()
) -> Report:
    """All chains, columns against content, and the checkpoints of the object store against both."""
    checkpoints = await kept_checkpoints(objects)
    verification = Verification(check_signature, noted=noted)
    for signed in checkpoints:
        verification.add_checkpoint(signed)
    async with database.transaction() as session:
        heads = await heads_of(session)
        stored = await all_checkpoints(session)
    for log, head in heads.items():
        verification.expect_head(log, head)
    async for row, flaw in stored_rows(database, after={}, upto=heads):
        verification.add_row(row, flaw=flaw)
    for row in await stray_rows(database):
        verification.add_row(row, flaw="it lies outside of the chain that the database has noted")
    report = verification.report()
    return replace(report, problems=(*_differences(checkpoints, stored, check_signature), *report.problems))


def _differences(
    kept: list[SignedCheckpoint], stored: list[StoredCheckpoint], check_signature: CheckSignature
) -> list[Problem]:
    """Where the database and the object store say different things about checkpoints."""
    published = {}
    for signed in kept:
        with suppress(ValueError):
            published[read_statement(signed.statement).number] = signed.statement
    known = {one.number: one.statement for one in stored}
    last = max(published, default=0)
    found = []
    for number in sorted({*published, *known}):
        # The newest ones may be in the database only: they are on their way.
        if known.get(number) != published.get(number) and not (number > last and number in known):
            where = "the object store" if number not in published else "the database"
            state = "is missing in" if number not in published or number not in known else "is another one in"
            found.append(f"checkpoint {number} {state} {where}")
    for one in stored:
        is_good = one.read() is not None and check_signature(one.statement.encode(), one.signature)
        if one.number not in published and not is_good:
            found.append(f"checkpoint {one.number} is forged: the database has it, and this public key did not sign it")
    return [Problem(Tampering.CHECKPOINT, text) for text in found]


def export(file: Path, since: datetime | None, until: datetime | None, *, is_unsigned_too: bool) -> None:
    """Writes the file and says what is in it."""
    settings = installed_settings()

    async def work() -> Exported:
        async with _neighbours(settings) as (database, objects):
            make = None if is_unsigned_too else partial(_ordered, settings)
            return await export_live(database, objects, file, since=since, until=until, make_checkpoint=make)

    done = outcome_of(work())
    print(f"{done.rows} rows and {done.checkpoints} checkpoints are in {file}")
    if done.last is not None:
        print(f"it ends at checkpoint {done.last}")


@dataclass(frozen=True, slots=True)
class Exported:
    """What is in a file.

    Attributes:
        last: The checkpoint that it ends at; ``None`` where it goes on to the newest row, signed or not.
    """

    rows: int
    checkpoints: int
    last: int | None


Pair = tuple[Checkpoint, SignedCheckpoint]


async def export_live(
    database: Database,
    objects: Objects,
    file: Path,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    make_checkpoint: Callable[[], Awaitable[object]] | None = None,
) -> Exported:
    """Writes rows and checkpoints; all or nothing.

    Args:
        database: Where the rows are.
        objects: Where the checkpoints are.
        file: Replaced, if it is there.
        since: From the checkpoint before it on.
        until: To the checkpoint after it.
        make_checkpoint: Has one made where none covers all of it yet, so that every row in the file is signed. Without
            it the file goes on to the newest row.
    """
    async with database.transaction() as session:
        detail = {"form": "verifiable", "since": since, "until": until}
        await record(session, SYSTEM, AuditAction.AUDIT_EXPORT, "platform", None, detail=detail)
    known = await _known_checkpoints(objects)
    end = _end(known, until)
    if end is None and make_checkpoint is not None:
        await make_checkpoint()
        known = await _known_checkpoints(objects)
        end = known[-1][0]
    base = next((pair for pair in reversed(known) if since is not None and pair[0].at <= since), None)
    chosen = [
        signed
        for checkpoint, signed in known
        if (base is None or checkpoint.number > base[0].number) and (end is None or checkpoint.number <= end.number)
    ]
    if base is not None:
        # Only where the rows begin is asked of it; the hashes of what is not in the file are left out.
        chosen.insert(0, SignedCheckpoint(base[1].statement, base[1].signature, b""))
    async with database.transaction() as session:
        upto = end.heads if end is not None else await heads_of(session)
    header = Header(is_whole=base is None, made_at=datetime.now(UTC), since=since, until=until)
    rows = await _write(database, file, header, chosen, base=base[0] if base else None, upto=dict(upto))
    return Exported(rows, len(chosen), end.number if end is not None else None)


async def _known_checkpoints(objects: Objects) -> list[Pair]:
    return [(read_statement(signed.statement), signed) for signed in await kept_checkpoints(objects)]


def _end(known: list[Pair], until: datetime | None) -> Checkpoint | None:
    """The first checkpoint that covers all until then, if there is one."""
    return next((checkpoint for checkpoint, _ in known if until is not None and checkpoint.at >= until), None)


async def _write(
    database: Database,
    file: Path,
    header: Header,
    checkpoints: list[SignedCheckpoint],
    *,
    base: Checkpoint | None,
    upto: dict[int, Head],
) -> int:
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    rows = 0
    try:
        with draft.open("w", encoding="utf-8", newline="\n") as lines:
            lines.write(header.line() + "\n")
            lines.writelines(signed.to_json() + "\n" for signed in checkpoints)
            async for row, _ in stored_rows(database, after=base.heads if base else {}, upto=upto):
                lines.write(row_line(row) + "\n")
                rows += 1
            lines.write(end_line(rows, len(checkpoints)) + "\n")
        draft.chmod(0o600)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    return rows


def make_checkpoint() -> None:
    """Has the workflow make one and says which."""
    made = outcome_of(_ordered(installed_settings()))
    print(f"checkpoint {made.number} over {made.rows} rows, signed at {made.at:%Y-%m-%d %H:%M:%S} UTC")


async def _ordered(settings: Settings) -> MadeCheckpoint:
    keys = {key_id: key.get_secret_value() for key_id, key in settings.temporal.payload_keys.items()}
    async with _neighbours(settings) as (_, objects):
        converter = data_converter(PayloadKeys(keys, settings.temporal.payload_key_id), objects)
        client = await connect(settings.temporal.address, settings.temporal.namespace, converter, program="cli")
        with translated_errors():
            try:
                made: MadeCheckpoint = await client.execute_workflow(
                    AUDIT_CHECKPOINT_WORKFLOW,
                    id=audit_checkpoint_workflow_id(uuid4()),
                    task_queue=ORCHESTRATION_QUEUE,
                    result_type=MadeCheckpoint,
                    search_attributes=search_attributes(Kind.MAINTENANCE, initiator="cli"),
                )
            except WorkflowFailureError as error:
                cause = error.cause.__cause__ or error.cause
                raise click.ClickException(
                    f"No checkpoint was made: {cause}. `perdure audit export --unsigned` needs none."
                ) from error
    return made
