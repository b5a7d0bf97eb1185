"""The real ``git`` client for tests: isolated from the machine's configuration, credentials never on a command line."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from adapters.repositories.base import Repositories

_HELPER = '!f() { test "$1" = get && echo username=token && echo "password=$PERDURE_TEST_TOKEN"; }; f'


@dataclass(frozen=True)
class Ran:
    """A finished git."""

    code: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        """All that a person would see."""
        return self.stdout + self.stderr


@dataclass(frozen=True)
class Git:
    """Runs git in ``directory`` with the credentials ``token``."""

    directory: Path
    token: str = ""

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of every git of this client."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_AUTHOR_NAME": "Ada",
            "GIT_AUTHOR_EMAIL": "ada@example.org",
            "GIT_COMMITTER_NAME": "Ada",
            "GIT_COMMITTER_EMAIL": "ada@example.org",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "credential.helper",
            "GIT_CONFIG_VALUE_0": _HELPER,
            "PERDURE_TEST_TOKEN": self.token,
            **(extra or {}),
        }

    async def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
        """Starts git and does not wait."""
        return await asyncio.create_subprocess_exec(
            "git",
            *arguments,
            cwd=self.directory,
            env=self.environment(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )

    async def try_to(self, *arguments: str, env: Mapping[str, str] | None = None) -> Ran:
        """Runs git, whatever its exit code."""
        process = await self.start(*arguments, env=env)
        stdout, stderr = await process.communicate()
        assert process.returncode is not None
        return Ran(process.returncode, stdout.decode(errors="replace"), stderr.decode(errors="replace"))

    async def __call__(self, *arguments: str, env: Mapping[str, str] | None = None) -> Ran:
        """Runs git, which must succeed."""
        ran = await self.try_to(*arguments, env=env)
        assert ran.code == 0, f"git {' '.join(arguments)}: {ran.text}"
        return ran

    async def sha(self, revision: str = "HEAD") -> str:
        """The id of a revision."""
        return (await self("rev-parse", revision)).stdout.strip()

    async def commit(self, files: Mapping[str, str | bytes], message: str = "A change") -> str:
        """Writes files, commits them, and returns the commit's id."""
        for name, content in files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        await self("add", "-A")
        await self("commit", "-q", "--allow-empty", "-m", message)
        return await self.sha()


async def new_clone(directory: Path, *, token: str = "", url: str | None = None) -> Git:
    """A fresh repository with the branch ``main`` and, for ``url``, the remote ``origin``."""
    await asyncio.to_thread(directory.mkdir, parents=True)
    git = Git(directory, token)
    await git("init", "-q", "-b", "main")
    if url is not None:
        await git("remote", "add", "origin", url)
    return git


async def tip_of(repositories: Repositories, project_id: UUID, branch: str) -> str:
    """The commit that a branch of the server's repository points at."""
    async with repositories.reader(project_id) as reader:
        return (await reader.resolve(f"refs/heads/{branch}")).commit.sha
