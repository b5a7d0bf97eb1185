"""`perdure audit`: the public key, checkpoints, exports, and the proof that nobody changed the log.

`perdure audit verify FILE --public-key KEY` needs nothing but this module, the file and the key: no settings, no
database, no network. What needs an installation is in `cli.audit_live`, which is imported when it is asked for.
"""

import re
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import click

from adapters.signing.ed25519 import PublicKey
from domain.audit.chain import Tampering
from domain.audit.checkpoints import CheckSignature
from domain.audit.export_file import verify_lines
from domain.audit.verification import Noted, Report

LIVE = "cli.audit_live"


@click.group()
def audit() -> None:
    """The audit log: its key, checkpoints, exports and verification.

    The commands that need an installation use the settings that PERDURE_SETTINGS names, else those of PERDURE_HOME.
    """


@audit.command()
def key() -> None:
    """Print the public key that checkpoints are checked with. Keep it where the server's owner cannot change it."""
    import_module(LIVE).show_key()


@audit.command()
def checkpoint() -> None:
    """Have a checkpoint made now instead of within the hour, and wait until the object store has it."""
    import_module(LIVE).make_checkpoint()


@audit.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--since", help="From here on, in UTC: 2026-01-31 or 2026-01-31T18:30. Default: the beginning.")
@click.option("--until", help="Until then. Default: now.")
@click.option(
    "--unsigned",
    "is_unsigned_too",
    is_flag=True,
    help="Have no checkpoint made: the newest rows are in the file too, and nothing proves them. Needs no Temporal.",
)
def export(file: Path, since: str | None, until: str | None, *, is_unsigned_too: bool) -> None:
    """Write the log, or a part of it, into FILE, which `perdure audit verify FILE` checks anywhere.

    A checkpoint is made first, so that every row in the file is signed. A part is widened to whole intervals between
    checkpoints, so that nothing can be missing from it unseen.
    """
    begin = None if since is None else _moment(since)
    end = None if until is None else _moment(until)
    import_module(LIVE).export(file, begin, end, is_unsigned_too=is_unsigned_too)


@audit.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@click.option(
    "--public-key", "keys", multiple=True, metavar="KEY", help="As `perdure audit key` prints it; repeatable."
)
@click.option(
    "--noted",
    "noted_texts",
    multiple=True,
    metavar="NUMBER:HASH",
    help="A checkpoint that you noted earlier and that must be in it; repeatable.",
)
@click.option("--unsigned", "is_unsigned_fine", is_flag=True, help="Rows at the end of FILE need not be signed.")
def verify(file: Path | None, keys: tuple[str, ...], noted_texts: tuple[str, ...], *, is_unsigned_fine: bool) -> None:
    """Check FILE, or the log in the database against the checkpoints in the object store.

    Names the first row of every chain that was changed, removed, inserted or reordered, and ends with status 1.
    Note the checkpoint that it ends at: only --noted shows later that the end was cut off with its checkpoints.
    """
    try:
        trusted = [PublicKey.from_text(text) for text in keys]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--public-key") from error
    noted = [_noted(text) for text in noted_texts]
    if file is None:
        report = import_module(LIVE).verify(trusted, noted)
    elif trusted:
        report = verify_file(file, trusted, noted, is_unsigned_fine=is_unsigned_fine)
    else:
        raise click.UsageError("A file is checked with the public key that you kept: give it with --public-key.")
    show_report(report)
    if report.problems:
        raise SystemExit(1)


def any_of(keys: list[PublicKey]) -> CheckSignature:
    """Whether a signature is one of any of these keys."""
    return lambda statement, signature: any(one.is_signed(statement, signature) for one in keys)


def verify_file(file: Path, keys: list[PublicKey], noted: list[Noted], *, is_unsigned_fine: bool) -> Report:
    """Checks a file with nothing but the keys, and what was noted."""
    try:
        with file.open(encoding="utf-8", newline="\n") as lines:
            return verify_lines(lines, any_of(keys), noted=noted, is_unsigned_fine=is_unsigned_fine)
    except ValueError as error:
        raise click.ClickException(f"{file} cannot be checked: {error}") from error


def show_report(report: Report) -> None:
    """What was checked, and what is wrong first."""
    since = f"after {report.since:%Y-%m-%d %H:%M:%S} UTC" if report.since else "from the beginning"
    until = f"{report.until:%Y-%m-%d %H:%M:%S} UTC" if report.until else None
    print(f"{report.rows} rows {since}, {report.checkpoints} checkpoints")
    for number, problem in enumerate(report.problems):
        mark = "FIRST " if number == 0 else "      "
        row = f" (row id {problem.row_id})" if problem.row_id else ""
        print(f"{mark}{problem.what.value.upper()}: {problem.text}{row}")
    if report.problems and all(problem.what is Tampering.UNSIGNED for problem in report.problems):
        print("Have it exported without --unsigned; or check it with --unsigned, and do not rely on those rows.")
        return
    if report.problems:
        print("The log is not what was written. Keep the database, the object store and this file as they are.")
        return
    if report.last is not None:
        print(f"whole and unchanged; {report.signed_rows} rows are signed, the last time at {until}")
        print(f"it ends at checkpoint {report.last}")
    if report.unsigned_rows:
        print(f"{report.unsigned_rows} rows are chained and not signed yet: the next checkpoint signs them")


def _noted(text: str) -> Noted:
    number, _, digest = text.strip().lower().partition(":")
    if not number.isascii() or not number.isdigit() or re.fullmatch("[0-9a-f]{64}", digest) is None:
        raise click.BadParameter(
            f"{text!r} is no checkpoint: write its number, a colon and the 64 digits of its hash, as they are shown at "
            "the end of `perdure audit verify` and by GET /api/v1/audit/checkpoints.",
            param_hint="--noted",
        )
    return Noted(int(number), digest)


def _moment(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no time: write it as 2026-01-31 or 2026-01-31T18:30, in UTC") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)
