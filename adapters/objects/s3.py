"""Objects in an S3 bucket (Amazon S3 API, version 2006-03-01), through minio's client.

That client blocks, so each call runs in a thread of a small pool of its own: however slow the store is, it holds up
neither the event loop nor the threads of anything else.
"""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import BinaryIO, TypeVar, cast

import urllib3
from minio import Minio
from minio.commonconfig import ComposeSource
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error

from adapters.objects.base import ObjectRef
from domain.errors import NotFound, Unavailable

T = TypeVar("T")

STREAM_CHUNK_BYTES = 1024**2
# One part is in memory at a time; 10,000 parts, the limit of S3, make 80 GB.
UPLOAD_PART_BYTES = 8 * 1024**2
# Data up to this size is one request.
SINGLE_PUT_BYTES = 64 * 1024**2
CONNECT_TIMEOUT_SECONDS = 3.0
# Without a byte in either direction; a large part on a slow store takes its time.
READ_TIMEOUT_SECONDS = 60.0
# A reader is a person or a program that waits: a store that says nothing for so long is away.
ANSWER_TIMEOUT_SECONDS = 5.0

_MISSING = frozenset({"NoSuchKey", "ResourceNotFound"})
_PAST_THE_END = "InvalidRange"
_BUCKET_EXISTS = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists"})


class S3Objects:
    """``Objects`` on any server that speaks S3.

    Args:
        endpoint: ``host:port``, without a scheme.
        secure: TLS.
        region: Given, so that no request is spent on asking for it.
        threads: How many requests are under way at once; others wait.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        access_key: str,
        secret_key: str,
        bucket: str,
        secure: bool = True,
        region: str = "us-east-1",
        threads: int = 8,
    ) -> None:
        self._bucket = bucket
        # Every request that urllib3 repeats here is idempotent: PUT, GET, HEAD and DELETE of whole objects.
        retries = urllib3.Retry(
            total=2, backoff_factor=0.1, status_forcelist=(500, 502, 503, 504), raise_on_status=False, redirect=False
        )
        self._http = urllib3.PoolManager(
            maxsize=threads,
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=READ_TIMEOUT_SECONDS),
            retries=retries,
        )
        self._http_for_reading = urllib3.PoolManager(
            maxsize=threads,
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=ANSWER_TIMEOUT_SECONDS),
            retries=retries.new(read=0),
        )

        def client(pool: urllib3.PoolManager) -> Minio:
            return Minio(
                endpoint,
                access_key=access_key,
                secret_key=secret_key,
                secure=secure,
                region=region,
                http_client=pool,
            )

        self._client = client(self._http)
        self._reader = client(self._http_for_reading)
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="s3")

    async def put(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> ObjectRef:
        """See ``Objects.put``."""
        return await self.put_file(key, io.BytesIO(data), size_bytes=len(data), content_type=content_type)

    async def put_file(
        self, key: str, file: BinaryIO, *, size_bytes: int, content_type: str = "application/octet-stream"
    ) -> ObjectRef:
        """See ``Objects.put_file``."""

        def put() -> ObjectRef:
            hashed = _HashedReader(file)
            single = isinstance(file, io.BytesIO) and size_bytes <= SINGLE_PUT_BYTES
            with _translated(key):
                self._client.put_object(
                    self._bucket,
                    key,
                    cast(BinaryIO, hashed),
                    size_bytes,
                    content_type,
                    part_size=SINGLE_PUT_BYTES if single else UPLOAD_PART_BYTES,
                    num_parallel_uploads=1,
                )
            return ObjectRef(key=key, size_bytes=size_bytes, sha256=hashed.sha256.hexdigest())

        return await self._run(put)

    async def compose(self, key: str, sources: Sequence[str]) -> ObjectRef:
        """See ``Objects.compose``."""

        def compose() -> ObjectRef:
            parts = [ComposeSource(self._bucket, source) for source in sources]
            with _translated(key):
                self._client.compose_object(self._bucket, key, parts)
                return self._stat(key)

        return await self._run(compose)

    async def get(self, key: str, *, offset: int = 0, size_bytes: int | None = None) -> bytes:
        """See ``Objects.get``."""
        return b"".join([chunk async for chunk in self.stream(key, offset=offset, size_bytes=size_bytes)])

    async def stream(self, key: str, *, offset: int = 0, size_bytes: int | None = None) -> AsyncIterator[bytes]:
        """See ``Objects.stream``."""
        if size_bytes == 0:  # A range of no bytes cannot be asked for (RFC 9110, 14.1.2).
            await self.stat(key)
            return
        response = await self._run(lambda: self._open(key, offset, size_bytes))
        if response is None:
            return
        chunks = response.stream(STREAM_CHUNK_BYTES)

        def following() -> bytes | None:
            with _translated(key):
                return next(chunks, None)

        finished = False
        try:
            while (chunk := await self._run(following)) is not None:
                yield chunk
            finished = True
        finally:
            if not finished:  # What was not read is thrown away with its connection.
                response.close()
            response.release_conn()

    async def stat(self, key: str) -> ObjectRef:
        """See ``Objects.stat``."""

        def stat() -> ObjectRef:
            with _translated(key):
                return self._stat(key)

        return await self._run(stat)

    async def delete(self, keys: Sequence[str]) -> None:
        """See ``Objects.delete``."""

        def delete() -> None:
            with _translated(", ".join(keys[:3])):
                if len(keys) == 1:
                    self._client.remove_object(self._bucket, keys[0])
                    return
                for error in self._client.remove_objects(self._bucket, [DeleteObject(key) for key in keys]):
                    if error.code not in _MISSING:
                        raise _unavailable(f"{error.code}: {error.message} ({error.name})")

        if keys:
            await self._run(delete)

    async def list_keys(self, prefix: str) -> list[str]:
        """See ``Objects.list_keys``."""

        def list_keys() -> list[str]:
            with _translated(prefix):
                found = self._client.list_objects(self._bucket, prefix=prefix, recursive=True)
                return [item.object_name for item in found if item.object_name is not None and not item.is_dir]

        return await self._run(list_keys)

    async def ensure_bucket(self) -> None:
        """See ``Objects.ensure_bucket``."""

        def ensure() -> None:
            with _translated(self._bucket):
                try:
                    if not self._client.bucket_exists(self._bucket):
                        self._client.make_bucket(self._bucket)
                except S3Error as error:
                    if error.code not in _BUCKET_EXISTS:  # Another process was faster.
                        raise

        await self._run(ensure)

    async def ping(self) -> None:
        """See ``Objects.ping``."""

        def ping() -> None:
            with _translated(self._bucket):
                if not self._reader.bucket_exists(self._bucket):
                    raise _unavailable(f"there is no bucket {self._bucket!r}")

        await self._run(ping)

    async def close(self) -> None:
        """See ``Objects.close``."""
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
        self._http.clear()
        self._http_for_reading.clear()

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _stat(self, key: str) -> ObjectRef:
        return ObjectRef(key=key, size_bytes=self._reader.stat_object(self._bucket, key).size or 0)

    def _open(self, key: str, offset: int, size_bytes: int | None) -> urllib3.BaseHTTPResponse | None:
        with _translated(key):
            try:
                return self._reader.get_object(self._bucket, key, offset=offset, length=size_bytes or 0)
            except S3Error as error:
                if error.code == _PAST_THE_END:
                    return None
                raise


class _HashedReader:
    """A file that is read once, from its present position on, and hashed meanwhile."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.sha256.update(data)
        return data


@contextmanager
def _translated(subject: str) -> Iterator[None]:
    """Turns the client's errors into ours."""
    try:
        yield
    except S3Error as error:
        if error.code in _MISSING:
            raise NotFound(f"There is no object {subject}.", code="object_not_found") from error
        raise _unavailable(f"{error.code}: {error.message}") from error
    except (MinioException, urllib3.exceptions.HTTPError, ConnectionError, TimeoutError) as error:
        raise _unavailable(type(error).__name__) from error


def _unavailable(reason: str) -> Unavailable:
    return Unavailable(
        f"The object store does not do its work ({reason}). What was acknowledged is kept; try again.",
        neighbour="objects",
    )
