import pytest

from domain.errors import InvalidInput
from domain.git.pkt_line import FLUSH, encode
from domain.git.upload_pack import FetchRequestCheck

A = b"a" * 40
DONE = encode(b"done\n")
OLD = (
    encode(b"want " + A + b" side-band-64k agent=git/2.39\n") + encode(b"want " + A + b"\n") + FLUSH + DONE,
    encode(b"want " + b"b" * 64 + b"\n") + FLUSH + encode(b"have " + A + b"\n") + FLUSH,
    encode(b"want " + A) + encode(b"shallow " + A) + encode(b"deepen 1") + FLUSH,
    FLUSH,
)
NEW = (
    encode(b"command=ls-refs\n") + encode(b"agent=git/2.39") + b"0001" + encode(b"peel\n") + FLUSH,
    encode(b"command=fetch") + b"0001" + encode(b"want " + A + b"\n") + DONE + FLUSH,
    FLUSH,
)


def check(body: bytes, *, version_2: bool, step: int) -> None:
    request = FetchRequestCheck(version_2=version_2)
    for start in range(0, len(body), step):
        request.feed(body[start : start + step])
    request.end()


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize("version_2", [False, True])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"zzzz",
        b"00",
        b"0003",
        b"fff1",
        b"0032want ",
        encode(b"want x\n") + FLUSH,
        encode(b"want " + A[1:] + b"\n") + FLUSH,
        encode(b"want " + A + b"x\n") + FLUSH,
        encode(b"have " + A + b"\n") + FLUSH,
        encode(b"command=\n") + FLUSH,
        encode(b"command=ls-refs; rm\n") + FLUSH,
        encode(b"\0" * 100) + FLUSH,
        encode(b"hello"),
        DONE,
    ],
)
def test_what_is_no_fetch_is_told_so(body: bytes, version_2: bool, step: int) -> None:
    with pytest.raises(InvalidInput):
        check(body, version_2=version_2, step=step)


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize("body", OLD)
def test_a_fetch_of_the_old_protocol(body: bytes, step: int) -> None:
    check(body, version_2=False, step=step)


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize("body", NEW)
def test_a_fetch_of_version_2(body: bytes, step: int) -> None:
    check(body, version_2=True, step=step)


@pytest.mark.parametrize(("bodies", "version_2"), [(OLD, False), (NEW, True)])
def test_every_truncation_is_noticed(bodies: tuple[bytes, ...], version_2: bool) -> None:
    for body in bodies:
        whole = {len(body)} | ({body.rfind(FLUSH + DONE) + 4} if FLUSH + DONE in body else set())
        for length in range(len(body)):
            if length in whole or body[:length].endswith((FLUSH, DONE)):
                continue
            with pytest.raises(InvalidInput):
                check(body[:length], version_2=version_2, step=100)
