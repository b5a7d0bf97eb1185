"""The installation that a command works on, for the commands that use its settings."""

import asyncio
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

import click

from deploy.local.state import StateDirectory
from domain.errors import PerdureError
from settings.values import Settings, load_settings

T = TypeVar("T")


def installed_settings() -> Settings:
    """The settings that ``PERDURE_SETTINGS`` names, else those of ``PERDURE_HOME``.

    Raises:
        ClickException: There are none.
    """
    if "PERDURE_SETTINGS" not in os.environ:
        path = StateDirectory.of_this_process().path / "settings.toml"
        if not path.exists():
            raise click.ClickException(f"There is no {path}. Name the settings in PERDURE_SETTINGS.")
        os.environ["PERDURE_SETTINGS"] = str(path)
    return load_settings()


def outcome_of(work: Coroutine[Any, Any, T]) -> T:
    """Runs it to its end; an error of ours becomes one line for whoever typed the command."""
    try:
        return asyncio.run(work)
    except PerdureError as error:
        raise click.ClickException(error.message) from error
