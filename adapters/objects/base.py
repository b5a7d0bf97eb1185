"""The object store protocol: large bytes under a key. References travel, bytes stay here."""

from collections.abc import AsyncIterator, Sequence
from typing import BinaryIO, Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict

PART_SIZE_BYTES_MIN = 5 * 1024**2
"""S3: every part of a composed object but the last has at least this size."""


class ObjectRef(BaseModel):
    """What is needed to find and check an object.

    Attributes:
        sha256: Hex, of the whole content; ``None`` where it was composed on the server and never read here.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    size_bytes: int
    sha256: str | None = None


class Objects(Protocol):
    """Stores objects in one bucket. Writing the same key again replaces it, so every write can be repeated.

    Every method raises ``domain.errors.Unavailable`` when the store does not answer, and ``domain.errors.NotFound``
    for a key that is not there (``delete`` does not mind).
    """

    async def put(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> ObjectRef:
        """Stores ``data``; durable when it returns."""
        ...

    async def put_file(
        self, key: str, file: BinaryIO, *, size_bytes: int, content_type: str = "application/octet-stream"
    ) -> ObjectRef:
        """Stores exactly ``size_bytes`` from an open file with bounded memory, computing the SHA-256 on the way."""
        ...

    async def compose(self, key: str, sources: Sequence[str]) -> ObjectRef:
        """Makes one object from others on the server (S3: UploadPartCopy).

        Raises:
            ValueError: No sources, or one before the last that is smaller than ``PART_SIZE_BYTES_MIN``.
        """
        ...

    async def get(self, key: str, *, offset: int = 0, size_bytes: int | None = None) -> bytes:
        """Reads a part, or all, into memory; bytes past the end are left out, as with a file. For small things."""
        ...

    def stream(self, key: str, *, offset: int = 0, size_bytes: int | None = None) -> AsyncIterator[bytes]:
        """Reads a part, or all, in chunks of at most 1 MiB; bytes past the end are left out, as with a file."""
        ...

    async def stat(self, key: str) -> ObjectRef:
        """The size of an object."""
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Removes objects; those that are not there are fine."""
        ...

    async def list_keys(self, prefix: str) -> list[str]:
        """Every key that starts with ``prefix``."""
        ...

    async def ensure_bucket(self) -> None:
        """Makes the bucket if it is missing."""
        ...

    async def ping(self) -> None:
        """Asks the store for an answer."""
        ...

    async def close(self) -> None:
        """Lets go of connections and threads."""
        ...


LOG_SEGMENTS_PREFIX = "log-segments/"
"""Apart from the logs themselves, so that one listing finds every segment that a crash has left behind."""


def log_key(project_id: object, run_id: object, step_id: object, sha256: str) -> str:
    """Where the whole log of an ended step lies; named by its content, so that nobody can ever overwrite it."""
    return f"logs/{project_id}/{run_id}/{step_id}-{sha256[:16]}.log"


def log_segment_key(step_id: object, log_offset: int, sha256: str) -> str:
    """Where a large piece of a growing log lies.

    Named by its content too: a writer that was cut off repeats the same key with the same bytes, and one that should
    have stopped (of an older attempt) cannot touch what its successor wrote.
    """
    return f"{LOG_SEGMENTS_PREFIX}{step_id}/{log_offset:016d}-{sha256[:16]}"


def step_id_of_segment(key: str) -> UUID:
    """Whose piece an object under ``LOG_SEGMENTS_PREFIX`` is."""
    return UUID(key.removeprefix(LOG_SEGMENTS_PREFIX).partition("/")[0])


def artifact_key(project_id: object, run_id: object, artifact_id: object, sha256: str) -> str:
    """Where an artifact lies; named by its content, so that a repeated upload cannot change what was recorded."""
    return f"artifacts/{project_id}/{run_id}/{artifact_id}-{sha256[:16]}"


def checkpoint_key(number: int | None = None) -> str:
    """Where a checkpoint of the audit log lies; without a number, what the keys of all of them begin with."""
    return "audit/checkpoints/" if number is None else f"audit/checkpoints/{number:012d}.json"


__all__ = [
    "LOG_SEGMENTS_PREFIX",
    "PART_SIZE_BYTES_MIN",
    "ObjectRef",
    "Objects",
    "artifact_key",
    "checkpoint_key",
    "log_key",
    "log_segment_key",
    "step_id_of_segment",
]
