"""Names of refs and ids of objects: what is well formed, and what a push may touch."""

import re

ZERO_SHA = "0" * 40
"""Stands for "no object" in a push: the old side of a creation, the new side of a deletion."""

BRANCH_PREFIX = "refs/heads/"
TAG_PREFIX = "refs/tags/"
PUSHABLE_PREFIXES = (BRANCH_PREFIX, TAG_PREFIX)
REF_NAME_SIZE_BYTES_MAX = 250
"""Longer names do not fit into a file name of 255 bytes together with git's ``.lock``."""

_SHA = re.compile(r"[0-9a-f]{40}")
_FORBIDDEN_IN_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]")
_NOT_UTF8 = re.compile(r"[\ud800-\udfff]")  # what Python's surrogateescape makes of stray bytes


def is_sha(text: str) -> bool:
    """Whether ``text`` is the full id of an object (SHA-1, lower case hex)."""
    return _SHA.fullmatch(text) is not None


def ref_name_problem(name: str) -> str | None:
    """Why ``name`` is no well-formed full ref name, or ``None``. The rules are those of ``git-check-ref-format(1)``.

    A limit of length per component and a refusal of names that look like an option (``refs/heads/-x``) come on top.
    """
    checks = (
        (_NOT_UTF8.search(name) is not None, "is not UTF-8"),
        (not name.startswith("refs/"), "does not start with refs/"),
        (_FORBIDDEN_IN_REF.search(name) is not None, "holds a blank, a control character or one of ~^:?*[\\"),
        (".." in name, "holds '..'"),
        ("@{" in name, "holds '@{'"),
        (name.endswith("."), "ends with '.'"),
        ("//" in name or name.endswith("/"), "has an empty part"),
        (len(name) > 4 * REF_NAME_SIZE_BYTES_MAX, f"is longer than {4 * REF_NAME_SIZE_BYTES_MAX} characters"),
    )
    for failed, reason in checks:
        if failed:
            return reason
    return next(filter(None, map(_part_problem, name.split("/"))), None)


def _part_problem(part: str) -> str | None:
    if part.startswith("."):
        return "has a part that starts with '.'"
    if part.endswith(".lock"):
        return "has a part that ends with '.lock'"
    if len(part.encode()) > REF_NAME_SIZE_BYTES_MAX:
        return f"has a part longer than {REF_NAME_SIZE_BYTES_MAX} bytes"
    return None


def pushable_ref_problem(name: str) -> str | None:
    """Why a push may not touch the ref ``name``, or ``None``: only well-formed branches and tags may be pushed."""
    problem = ref_name_problem(name)
    if problem is not None:
        return f"malformed ref name: it {problem}"
    prefix = next((prefix for prefix in PUSHABLE_PREFIXES if name.startswith(prefix)), None)
    if prefix is None:
        return "only refs/heads/* and refs/tags/* may be pushed"
    short = name.removeprefix(prefix)
    if short.startswith("-"):
        return "malformed ref name: it starts with '-'"
    if short == "HEAD":
        return "malformed ref name: a branch or tag may not be called HEAD"
    return None


def short_name(ref: str) -> str:
    """``refs/heads/main`` -> ``main``; what is neither a branch nor a tag stays as it is."""
    return branch_of(ref) or tag_of(ref) or ref


def branch_of(ref: str) -> str | None:
    """The branch that a full ref name names."""
    return ref.removeprefix(BRANCH_PREFIX) if ref.startswith(BRANCH_PREFIX) else None


def tag_of(ref: str) -> str | None:
    """The tag that a full ref name names."""
    return ref.removeprefix(TAG_PREFIX) if ref.startswith(TAG_PREFIX) else None


def are_in_each_others_way(one: str, other: str) -> bool:
    """Whether two refs are the same or cannot exist at once (``a`` is a file, ``a/b`` needs it as a directory)."""
    return one == other or one.startswith(other + "/") or other.startswith(one + "/")


def revision_problem(text: str) -> str | None:
    """Why ``text`` may not be handed to git as a branch, tag, ref or id of a commit, or ``None``.

    Expressions (``main~3``, ``@{1}``, ``a..b``, ``:path``) are not names, and what starts with ``-`` is an option.
    """
    if not text or text.startswith("-"):
        return "is empty or starts with '-'"
    return ref_name_problem(text if text.startswith("refs/") else BRANCH_PREFIX + text)
