"""Objects in a dictionary: the stand-in of tests, which passes the same contract tests as ``S3Objects``."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import BinaryIO

from adapters.objects.base import PART_SIZE_BYTES_MIN, ObjectRef
from domain.errors import NotFound, Unavailable

STREAM_CHUNK_BYTES = 1024**2


class MemoryObjects:
    """Keeps everything in this process.

    Attributes:
        content: What is stored, by key.
        is_away: Set it to play an outage: every method raises ``Unavailable``.
    """

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.is_away = False

    async def put(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> ObjectRef:
        """See ``Objects.put``."""
        del content_type
        self._answer()
        self.content[key] = bytes(data)
        return ObjectRef(key=key, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    async def put_file(
        self, key: str, file: BinaryIO, *, size_bytes: int, content_type: str = "application/octet-stream"
    ) -> ObjectRef:
        """See ``Objects.put_file``."""
        data = file.read(size_bytes)
        if len(data) < size_bytes:
            raise OSError(f"expected {size_bytes} bytes, the file has only {len(data)}")
        return await self.put(key, data, content_type=content_type)

    async def compose(self, key: str, sources: Sequence[str]) -> ObjectRef:
        """See ``Objects.compose``."""
        self._answer()
        if not sources:
            raise ValueError("there is nothing to compose")
        parts = [self._get(source) for source in sources]
        if any(len(part) < PART_SIZE_BYTES_MIN for part in parts[:-1]):
            raise ValueError(f"all sources but the last need at least {PART_SIZE_BYTES_MIN} bytes")
        self.content[key] = b"".join(parts)
        return await self.stat(key)

    async def get(self, key: str, *, offset: int = 0, size_bytes: int | None = None) -> bytes:
        """See ``Objects.get``."""
        self._answer()
        return self._get(key)[offset : None if size_bytes is None else offset + size_bytes]

    async def stream(self, key: str, *, offset: int = 0, size_bytes: int | None = None) -> AsyncIterator[bytes]:
        """See ``Objects.stream``."""
        data = await self.get(key, offset=offset, size_bytes=size_bytes)
        for start in range(0, len(data), STREAM_CHUNK_BYTES):
            self._answer()
            yield data[start : start + STREAM_CHUNK_BYTES]

    async def stat(self, key: str) -> ObjectRef:
        """See ``Objects.stat``."""
        self._answer()
        return ObjectRef(key=key, size_bytes=len(self._get(key)))

    async def delete(self, keys: Sequence[str]) -> None:
        """See ``Objects.delete``."""
        self._answer()
        for key in keys:
            self.content.pop(key, None)

    async def list_keys(self, prefix: str) -> list[str]:
        """See ``Objects.list_keys``."""
        self._answer()
        return sorted(key for key in self.content if key.startswith(prefix))

    async def ensure_bucket(self) -> None:
        """See ``Objects.ensure_bucket``."""
        self._answer()

    async def ping(self) -> None:
        """See ``Objects.ping``."""
        self._answer()

    async def close(self) -> None:
        """See ``Objects.close``."""

    def _answer(self) -> None:
        if self.is_away:
            raise Unavailable("The object store plays dead.", neighbour="objects")

    def _get(self, key: str) -> bytes:
        if key not in self.content:
            raise NotFound(f"There is no object {key}.", code="object_not_found")
        return self.content[key]
