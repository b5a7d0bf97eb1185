"""What a push really did, read from the repository's files: refs and reflogs.

Read directly, because this is asked once or twice per push and a git process costs some milliseconds each time.
"""

from pathlib import Path
from uuid import UUID

from domain.git.receive_pack import RefUpdate

_REFLOG_TAIL_SIZE_BYTES = 8 * 1024**2


def push_identity(push_id: UUID) -> dict[str, str]:
    """The committer that ``git receive-pack`` writes into the reflog of each ref that it moves."""
    return {"GIT_COMMITTER_NAME": "Perdure", "GIT_COMMITTER_EMAIL": _address(push_id)}


def _address(push_id: UUID) -> str:
    return f"{push_id}@push.perdure"


def ref_value(repository: Path, ref: str) -> str | None:
    """The object that a ref names now; ``None`` if there is no such ref. Symbolic refs are not followed."""
    try:
        return (repository / ref).read_text(encoding="ascii").strip()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        pass
    try:
        packed = (repository / "packed-refs").read_bytes()
    except FileNotFoundError:
        return None
    wanted = b" " + ref.encode()
    return next((line[:40].decode("ascii") for line in packed.splitlines() if line[40:] == wanted), None)


def was_moved(repository: Path, push_id: UUID, update: RefUpdate) -> bool:
    """Whether this push moved the ref.

    Git writes the reflog entry first and the ref after it, so an entry alone is no proof: the ref has the new value,
    or a later entry went on from it.
    """
    now = ref_value(repository, update.ref)
    if update.deletes:
        return now is None
    following = _entries_since(repository / "logs" / update.ref, push_id, update)
    if following is None:
        return False
    return now == update.new or following.startswith(update.new)


def _entries_since(reflog: Path, push_id: UUID, update: RefUpdate) -> str | None:
    """What follows this push's entry in the reflog; ``None`` if there is no such entry."""
    try:
        with reflog.open("rb") as file:
            size_bytes = file.seek(0, 2)
            file.seek(max(0, size_bytes - _REFLOG_TAIL_SIZE_BYTES))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    begins, names = f"{update.old} {update.new} ", f"<{_address(push_id)}>"
    for position in range(len(lines) - 1, -1, -1):
        if lines[position].startswith(begins) and names in lines[position]:
            return "\n".join(lines[position + 1 :])
    return None
