"""Clone and push of a 100 MB repository over HTTP beside `file://`, alone and twenty at once."""

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.result import Figure, figure, median
from tests.support.platform import OWNER, Platform

SIZE_MB = 100
FILES = 200
ROUNDS = 5
CLONES_AT_ONCE = 20


async def git_transfer(platform: Platform, scratch: Path) -> list[Figure]:
    """Push, clone, and twenty clones, each in turn with its `file://` twin."""
    source = await _repository(platform, scratch / "big")
    http = f"{platform.url}/{OWNER}/big.git"
    await platform.push(source, "big", "main", "-o", "ci.skip")
    bare = scratch / "bare.git"
    await platform.git(scratch, "clone", "-q", "--bare", "--no-local", str(source), str(bare))
    # Twins: the same commands against the same content, one over our server, one over the file system.
    pushes = await _pairs(
        lambda n: platform.push(source, f"push-{n}", "main", "-o", "ci.skip"),
        lambda n: _push_to_file(platform, source, scratch / f"push-{n}.git"),
    )
    clones = await _pairs(
        lambda n: _clone(platform, http, scratch / f"http-{n}"),
        lambda n: _clone(platform, f"file://{bare}", scratch / f"file-{n}"),
    )
    many = await _pairs(
        lambda n: _clones(platform, http, scratch / f"many-http-{n}"),
        lambda n: _clones(platform, f"file://{bare}", scratch / f"many-file-{n}"),
        rounds=3,
    )
    names = (f"push of {SIZE_MB} MB", f"clone of {SIZE_MB} MB", f"{CLONES_AT_ONCE} clones of {SIZE_MB} MB at once")
    return [
        figure(name, median(ours), "s", limit=("file:// --no-local", median(theirs)), goal_ratio=("at most", 1.2))
        for name, (ours, theirs) in zip(names, (pushes, clones, many), strict=True)
    ]


async def _repository(platform: Platform, directory: Path) -> Path:
    await platform.repository(directory, {"README": "noise, which cannot be compressed\n"})
    size_bytes = SIZE_MB * 1_000_000 // FILES
    for number in range(FILES):
        (directory / f"{number}.bin").write_bytes(os.urandom(size_bytes))
    await platform.commit(directory, {}, "noise")
    return directory


Work = Callable[[int], Awaitable[object]]


async def _pairs(ours: Work, theirs: Work, *, rounds: int = ROUNDS) -> tuple[list[float], list[float]]:
    """Times both in turn, so that a drift of the machine's speed meets both."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for work, kept in zip((ours, theirs), seconds, strict=True):
            began = time.monotonic()
            await work(number)
            kept.append(time.monotonic() - began)
    return seconds


async def _push_to_file(platform: Platform, source: Path, bare: Path) -> None:
    await platform.git(source, "init", "-q", "--bare", str(bare))
    await platform.git(source, "push", "-q", f"file://{bare}", "main")


async def _clone(platform: Platform, url: str, target: Path) -> None:
    await platform.git(target.parent, "clone", "-q", "--no-checkout", "--no-local", url, str(target))
    shutil.rmtree(target)


async def _clones(platform: Platform, url: str, target: Path) -> None:
    target.mkdir()  # noqa: ASYNC240  # microseconds
    await asyncio.gather(*(_clone(platform, url, target / str(number)) for number in range(CLONES_AT_ONCE)))
