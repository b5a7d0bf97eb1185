"""Where the programs of the wheels lie."""

import shutil
import sys
import sysconfig
from pathlib import Path

from deploy.local.part import PartFailed


def program(name: str) -> Path:
    """The program ``name`` of this Python environment, else the one on the PATH.

    Raises:
        PartFailed: There is none.
    """
    for folder in (Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))):
        if (folder / name).is_file():
            return folder / name
    if found := shutil.which(name):
        return Path(found)
    raise PartFailed(f"The program {name} is not installed: run `make install`.")
