"""The first run's demo: a real `git push` of the sample repository, its run followed to the end."""

import asyncio
import json
import os
import secrets
import shutil
import time
from importlib.resources import as_file, files
from pathlib import Path

import httpx

from cli.follow import FollowingFailed, follow_run
from cli.terminal import Terminal
from deploy.local.installation import Installation
from deploy.local.private_files import write_private

PROJECT = "demo"
SCOPES = ("project:read", "project:write", "project:create", "pipeline:run")
TOKEN_VARIABLE = "PERDURE_DEMO_TOKEN"  # noqa: S105  # the name of a variable, not a token
RUN_APPEARS_WITHIN_SECONDS = 30.0

# The helper is a shell function that git calls; the token is only in git's environment, never on a command line.
CREDENTIAL_HELPER = (
    f'!f() {{ test "$1" = get && echo "username=$PERDURE_DEMO_USER" && echo "password=${TOKEN_VARIABLE}"; }}; f'
)

STATUS_COLOURS = {
    "success": "green",
    "failure": "red",
    "error": "red",
    "lost": "red",
    "cancelled": "yellow",
    "running": "blue",
}


class DemoFailed(Exception):
    """The demo could not be shown; the platform itself serves."""


async def show_demo(installation: Installation, terminal: Terminal) -> None:
    """Shows the demo once per installation; a demo that was interrupted is taken up where it stands.

    Raises:
        DemoFailed: With the reason.
    """
    marker = installation.state.path / "demo.json"
    if marker.exists():
        return
    owner = installation.admin_name
    run_root = f"/api/v1/projects/{owner}/{PROJECT}/pipelines"
    terminal.line()
    terminal.line(f"The first run: pushing a sample repository to {owner}/{PROJECT}", bold=True)
    try:
        token = await _make_token(installation)
        repository = await asyncio.to_thread(_sample_repository, installation.state.path / "demo")
        await _commit(repository)
        began = time.monotonic()
        await _push(installation, repository, token=token, terminal=terminal)
        async with httpx.AsyncClient(
            base_url=installation.api_url,
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
            timeout=30,
        ) as client:
            run_id = await _newest_run(client, run_root)
            ended = await follow_run(
                client,
                run_path=f"{run_root}/{run_id}",
                print_line=lambda step, line: terminal.line(f"  {step:<10} | {line}"),
                print_status=lambda step, status: terminal.line(
                    f"  {step:<10} {status}", colour=STATUS_COLOURS.get(status)
                ),
            )
    except httpx.HTTPStatusError as error:
        raise DemoFailed(f"{error.request.method} {error.request.url}: {error.response.text[:500]}") from error
    except httpx.HTTPError as error:
        raise DemoFailed(f"the API does not answer ({error})") from error
    except FollowingFailed as error:
        raise DemoFailed(str(error)) from error
    seconds = time.monotonic() - began
    terminal.line(
        f"  the run ended: {ended}, {seconds:.1f} s after the push began", colour=STATUS_COLOURS.get(ended), bold=True
    )
    write_private(marker, json.dumps({"project": f"{owner}/{PROJECT}", "run": run_id, "status": ended}) + "\n")


async def _make_token(installation: Installation) -> str:
    """A token for a day, asked for with the administrator's first password."""
    password = installation.admin_password_path.read_text(encoding="utf-8").strip()
    async with httpx.AsyncClient(base_url=installation.api_url, trust_env=False, timeout=30) as client:
        answer = await client.post(
            "/api/v1/tokens",
            auth=(installation.admin_name, password),
            # A name of its own: a demo that was interrupted may have made one before.
            json={"name": f"demo-{secrets.token_hex(3)}", "scopes": list(SCOPES), "expires_in_days": 1},
        )
    answer.raise_for_status()
    return str(answer.json()["token"])


def _sample_repository(directory: Path) -> Path:
    """The sample's files in a directory of their own, brought up to date."""
    with as_file(files("deploy.local") / "demo") as sample:
        shutil.copytree(sample, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
    return directory


async def _commit(repository: Path) -> None:
    if (repository / ".git" / "refs" / "heads" / "main").exists():
        return
    await _git(repository, "init", "--quiet", "--initial-branch=main")
    await _git(repository, "add", "--all")
    await _git(repository, "commit", "--quiet", "--message=Count words")


async def _push(installation: Installation, repository: Path, *, token: str, terminal: Terminal) -> None:
    url = f"{installation.api_url}/{installation.admin_name}/{PROJECT}.git"
    terminal.line(f"  $ git push {url} main", colour="bright_black")
    output = await _git(
        repository,
        "-c",
        "credential.helper=",
        "-c",
        f"credential.helper={CREDENTIAL_HELPER}",
        "push",
        url,
        "main",
        environment={TOKEN_VARIABLE: token, "PERDURE_DEMO_USER": installation.admin_name},
    )
    for line in output.splitlines():
        terminal.line(f"  {line}")


async def _git(repository: Path, *arguments: str, environment: dict[str, str] | None = None) -> str:
    person = {"NAME": "Perdure", "EMAIL": "demo@localhost"}
    # The person's own git settings (proxies, signing, hooks) have no say in the demo.
    process = await asyncio.create_subprocess_exec(
        "git",
        *arguments,
        cwd=repository,
        env={
            **os.environ,
            **{f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in person.items()},
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            **(environment or {}),
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    text = output.decode(errors="replace").strip()
    if process.returncode != 0:
        command = "push" if "push" in arguments else arguments[0]
        raise DemoFailed(f"git {command} failed:\n{text}")
    return text


async def _newest_run(client: httpx.AsyncClient, run_root: str) -> str:
    """The id of the run that the push started."""
    deadline = time.monotonic() + RUN_APPEARS_WITHIN_SECONDS
    while True:
        items = (await client.get(run_root)).raise_for_status().json()["items"]
        if items:
            return str(items[0]["id"])
        if time.monotonic() > deadline:
            raise DemoFailed(f"no run appeared within {RUN_APPEARS_WITHIN_SECONDS:.0f} s after the push")
        await asyncio.sleep(0.2)
