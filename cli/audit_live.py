"""What `perdure audit` does with an installation: its database, its object store, and Temporal."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
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
from database.store.audit_checkpoints import heads_of, statements
from database.store.audit_keys import AuditKeys
from database.store.audit_rows import stored_rows, stray_rows
from domain.actors import SYSTEM
from domain.audit.actions import AuditAction
from domain.audit.checkpoints import Checkpoint, CheckSignature, Head, SignedCheckpoint, read_statement
from domain.audit.export_file import Header, end_line, row_line
from domain.audit.messages import MadeCheckpoint
from domain.audit.verification import Problem, Report, Tampering, Verification
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


def verify(keys: list[PublicKey]) -> Report:
    """Checks the live log; with the installation's own key where none is given."""
    settings = installed_settings()
    trusted = keys or [SigningKey(settings.audit.signing_seed()).public]

    async def work() -> Report:
        async with _neighbours(settings) as (database, objects):
            return await verify_live(database, objects, any_of(trusted))

    return outcome_of(work())


async def verify_live(database: Database, objects: Objects, check_signature: CheckSignature) -> Report:
    """All chains, columns against content, and the checkpoints of the object store against both."""
    checkpoints = await kept_checkpoints(objects)
    verification = Verification(check_signature)
    for signed in checkpoints:
        verification.add_checkpoint(signed)
    async with database.transaction() as session:
        heads = await heads_of(session)
        stored = await statements(session)
    for log, head in heads.items():
        verification.expect_head(log, head)
    async for row, flaw in stored_rows(database, after={}, upto=heads):
        verification.add_row(row, flaw=flaw)
    for row in await stray_rows(database):
        verification.add_row(row, flaw="it lies beyond the end that the database has noted")
    return _with(verification.report(), _differences(checkpoints, stored))


def _differences(kept: list[SignedCheckpoint], stored: dict[int, str]) -> list[Problem]:
    """Where the database and the object store say different things about checkpoints."""
    found = []
    published = {}
    for signed in kept:
        try:
            published[read_statement(signed.statement).number] = signed.statement
        except ValueError:
            continue
    last = max(published, default=0)
    for number in sorted({*published, *stored}):
        # The newest ones may be in the database only: they are on their way.
        if stored.get(number) != published.get(number) and not (number > last and number in stored):
            where = "the object store" if number not in published else "the database"
            state = "is missing in" if number not in published or number not in stored else "is another one in"
            found.append(Problem(Tampering.CHECKPOINT, f"checkpoint {number} {state} {where}"))
    return found


def _with(report: Report, problems: list[Problem]) -> Report:
    return Report(
        rows=report.rows,
        signed_rows=report.signed_rows,
        checkpoints=report.checkpoints,
        since=report.since,
        until=report.until,
        problems=(*problems, *report.problems),
    )


def export(file: Path, since: datetime | None, until: datetime | None) -> None:
    """Writes the file and says what is in it."""
    settings = installed_settings()

    async def work() -> tuple[int, int]:
        async with _neighbours(settings) as (database, objects):
            return await export_live(database, objects, file, since=since, until=until)

    rows, checkpoints = outcome_of(work())
    print(f"{rows} rows and {checkpoints} checkpoints are in {file}")


async def export_live(
    database: Database, objects: Objects, file: Path, *, since: datetime | None = None, until: datetime | None = None
) -> tuple[int, int]:
    """Writes rows and checkpoints; all or nothing.

    Returns:
        How many rows and checkpoints there are in the file.
    """
    kept = await kept_checkpoints(objects)
    known = [(read_statement(signed.statement), signed) for signed in kept]
    before = [pair for pair in known if since is not None and pair[0].at <= since]
    later = [pair for pair in known if until is not None and pair[0].at >= until]
    base = before[-1] if before else None
    end = later[0][0] if later else None
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
        detail = {"form": "verifiable", "since": since, "until": until}
        await record(session, SYSTEM, AuditAction.AUDIT_EXPORT, "platform", None, detail=detail)
    header = Header(is_whole=base is None, made_at=datetime.now(UTC), since=since, until=until)
    rows = await _write(database, file, header, chosen, base=base[0] if base else None, upto=dict(upto))
    return rows, len(chosen)


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
                    id=f"audit-checkpoint/{uuid4()}",
                    task_queue=ORCHESTRATION_QUEUE,
                    result_type=MadeCheckpoint,
                    search_attributes=search_attributes(Kind.MAINTENANCE, initiator="cli"),
                )
            except WorkflowFailureError as error:
                cause = error.cause.__cause__ or error.cause
                raise click.ClickException(f"No checkpoint was made: {cause}") from error
    return made
