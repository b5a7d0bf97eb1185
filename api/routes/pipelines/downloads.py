"""Answers made of bytes that come from a store."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing

from starlette.responses import StreamingResponse

from api.routes.pipelines.ranges import ByteRange


async def download(
    stream: AsyncGenerator[bytes, None], wanted: ByteRange, headers: Mapping[str, str]
) -> StreamingResponse:
    """The bytes as an answer, begun only once the first of them are there.

    A store that is away is then told as 503. After the head of the answer it could only be a broken connection.

    Args:
        stream: Closed at the end.

    Raises:
        Unavailable: The store does not answer.
        NotFound: It does not have them.
    """
    first = await anext(stream, b"")

    async def whole() -> AsyncIterator[bytes]:
        async with aclosing(stream):
            yield first
            async for data in stream:
                yield data

    return StreamingResponse(whole(), status_code=wanted.status, headers=dict(headers))
