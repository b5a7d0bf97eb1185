"""The reference of the git server names the limits and refusals as they are."""

import re
from pathlib import Path

import pytest

from domain.git import receive_pack, refs

ROOT = Path(__file__).parents[3]
REFERENCE = re.sub(r"\s+", " ", (ROOT / "docs/reference/git.md").read_text())
HOOK = (ROOT / "adapters/repositories/hooks/pre-receive").read_text()


@pytest.mark.parametrize(
    "limit", [receive_pack.COMMANDS_MAX, receive_pack.PUSH_OPTIONS_MAX, receive_pack.PUSH_OPTION_SIZE_BYTES_MAX]
)
def test_limits_are_named(limit: int) -> None:
    assert re.search(rf"(?<![\d,]){limit:,}(?![\d,]\d)", REFERENCE)


@pytest.mark.parametrize("ref", ["refs/notes/x", "refs/heads/HEAD"])
def test_reasons_to_refuse_a_ref_are_quoted(ref: str) -> None:
    assert f"`{refs.pushable_ref_problem(ref)}`" in REFERENCE


def test_the_protection_of_the_default_branch_is_quoted() -> None:
    update = receive_pack.RefUpdate("a" * 40, refs.ZERO_SHA, "refs/heads/main")
    [reason] = receive_pack.refusals([update], default_branch="main").values()
    assert f"`{reason}`" in REFERENCE


@pytest.mark.parametrize(
    "words",
    [
        "is protected: it only moves forward. Nothing was changed. Fetch, merge or rebase, and push",
        "the objects of this push could not be examined; nothing was changed. Push again.",
    ],
)
def test_what_the_hook_says_is_quoted(words: str) -> None:
    assert words in HOOK
    assert words in REFERENCE
