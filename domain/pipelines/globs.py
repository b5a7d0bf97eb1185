"""The glob language of pipeline files: branches, changed files and artifacts.

``*`` is any text without a slash (also one that begins with a dot), ``?`` one character, ``[abc]`` one of these and
``[!abc]`` one that is none of these, ``**`` as a whole segment any number of segments, none included. Matching takes
time in proportion to pattern times path at worst, whatever a hostile pattern looks like.
"""

import re
from functools import lru_cache

GLOB_CHARACTERS_MAX = 256


def glob_fault(pattern: str) -> str | None:
    """What is wrong with a pattern, as the end of the sentence "the pattern ..."; ``None`` if it is good."""
    if not pattern:
        return "is empty"
    if len(pattern) > GLOB_CHARACTERS_MAX:
        return f"is longer than {GLOB_CHARACTERS_MAX} characters"
    segments = pattern.split("/")
    faults = {
        "holds a NUL character": "\0" in pattern,
        "has braces, which have no meaning here; write a list of patterns": "{" in pattern or "}" in pattern,
        "has '**' next to other characters; it stands for whole directories, as in 'src/**/*.py'": any(
            "**" in segment and segment != "**" for segment in segments
        ),
        "has a '[' without its ']'": any(_has_open_bracket(segment) for segment in segments),
    }
    return next((fault for fault, present in faults.items() if present), None)


def path_glob_fault(pattern: str) -> str | None:
    """Like ``glob_fault``, for patterns of files: these stay below the root of the repository or workspace."""
    fault = glob_fault(pattern)
    if fault is not None:
        return fault
    if pattern.startswith("/"):
        return "is absolute; patterns begin at the root of the workspace, without a slash"
    segments = pattern.removeprefix("./").rstrip("/").split("/")
    if ".." in segments:
        return "has '..'; patterns stay inside the workspace"
    if "" in segments or "." in segments:
        return "has an empty segment or '.'"
    return None


def glob_matches(pattern: str, path: str) -> bool:
    """Whether a good pattern (``glob_fault``) matches the whole of ``path``; case counts."""
    return _compiled(pattern).match(f"{path}/") is not None


def path_glob_matches(pattern: str, path: str) -> bool:
    """Whether a pattern of files matches ``path`` or a directory above it, so that ``dist`` means all below it."""
    wanted = pattern.removeprefix("./").rstrip("/")
    return glob_matches(wanted, path) or glob_matches(f"{wanted}/**", path)


def literal_directory(pattern: str) -> str:
    """The directories before the first segment with a wildcard, ending with a slash if there are any.

    ``build/out/*.log`` gives ``build/out/``; ``*.log`` and ``report.txt`` give nothing.
    """
    segments = pattern.removeprefix("./").rstrip("/").split("/")
    literal: list[str] = []
    for segment in segments[:-1]:
        if is_wild(segment):
            break
        literal.append(segment)
    return "".join(f"{segment}/" for segment in literal)


def is_wild(pattern: str) -> bool:
    """Whether a pattern has a wildcard."""
    return any(character in pattern for character in "*?[")


def _has_open_bracket(segment: str) -> bool:
    """Whether a ``[`` is never closed; a ``]`` right behind ``[`` or ``[!`` stands for itself, as in the shell."""
    at = segment.find("[")
    while at >= 0:
        first = at + 2 if segment[at + 1 : at + 2] == "!" else at + 1
        end = segment.find("]", first + 1)
        if end < 0:
            return True
        at = segment.find("[", end)
    return False


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression over the path and a slash behind it.

    What stands between two ``**`` (or two ``*`` of a segment) has to be found once, as early as possible: an earlier
    find never makes the rest impossible. So it is an atomic group, and no pattern makes the matcher try combinations.
    """
    runs: list[str] = [""]
    for segment in pattern.split("/"):
        if segment == "**":
            runs.append("")
        else:
            runs[-1] += f"{_segment(segment)}/"
    if len(runs) == 1:
        return re.compile(rf"{runs[0]}\Z", re.DOTALL)
    middle = "".join(f"(?>(?:[^/]*+/)*?{run})" for run in runs[1:-1])
    return re.compile(rf"{runs[0]}{middle}(?:[^/]*+/)*{runs[-1]}\Z", re.DOTALL)


def _segment(segment: str) -> str:
    """The regular expression of one segment; it never matches a slash."""
    pieces = [""]
    at = 0
    while at < len(segment):
        character = segment[at]
        if character == "*":
            pieces.append("")
        elif character == "?":
            pieces[-1] += "[^/]"
        elif character == "[":
            first = at + 2 if segment[at + 1] == "!" else at + 1
            end = segment.index("]", first + 1)
            pieces[-1] += _character_class(segment[first:end], negated=first == at + 2)
            at = end
        else:
            pieces[-1] += re.escape(character)
        at += 1
    if len(pieces) == 1:
        return pieces[0]
    middle = "".join(f"(?>[^/]*?{piece})" for piece in pieces[1:-1] if piece)
    return f"{pieces[0]}{middle}[^/]*{pieces[-1]}"


def _character_class(members: str, *, negated: bool) -> str:
    """``[abc]`` or ``[a-z]`` of a pattern; a range that runs backwards has no members."""
    ranges: list[str] = []
    at = 0
    while at < len(members):
        low = high = members[at]
        if members[at + 1 : at + 2] == "-" and at + 2 < len(members):
            high = members[at + 2]
            at += 2
        at += 1
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
    if not ranges:
        return "[^/]" if negated else r"(?!)"
    return f"(?!/)[{'^' if negated else ''}{''.join(ranges)}]"
