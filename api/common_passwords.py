"""The bundled list of common passwords, read when the first password is set. Source and licence: ``api/words``."""

import lzma
from functools import cache
from pathlib import Path

FILE = Path(__file__).parent / "words" / "common-passwords.txt.xz"


@cache
def common_passwords() -> frozenset[str]:
    """Some 20,000 passwords that everybody tries first, in lower case; about 2 MiB once read."""
    return frozenset(lzma.decompress(FILE.read_bytes()).decode().splitlines())
