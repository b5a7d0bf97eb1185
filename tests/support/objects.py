"""Object stores for tests."""

from adapters.objects.s3 import S3Objects
from tests.support.stack import Stack


async def s3_objects(stack: Stack) -> S3Objects:
    """A client of the stack's S3 server, which is started if it does not run."""
    await stack.start("s3")
    objects = S3Objects(**stack.objects)
    await objects.ensure_bucket()
    return objects
