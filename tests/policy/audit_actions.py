"""Writes the table of actions in ``docs/reference/audit.md``: ``python -m tests.policy.audit_actions``.

The test beside this module fails when the page and ``domain.audit.actions`` differ, when code records an action by
another way than a member of the enum, and when a member is recorded nowhere.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from domain.audit.actions import DESCRIPTIONS, AuditAction

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "audit.md"
BEGIN = "<!-- actions: written by python -m tests.policy.audit_actions -->"
END = "<!-- end of actions -->"
PACKAGES = ("activities", "adapters", "api", "cli", "database", "worker", "workflows")


def table() -> str:
    """The table as it should be."""
    lines = ["| action | what happened |", "|---|---|"]
    lines += [f"| `{action.value}` | {DESCRIPTIONS[action]} |" for action in sorted(AuditAction)]
    return "\n".join(lines)


def rendered(page: str) -> str:
    """The page with the table in its place."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{table()}\n{END}{tail}"


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def recorded_actions() -> Iterator[tuple[str, ast.expr]]:
    """Every place where an act is recorded, and the action as it is written there."""
    for path, module in _modules():
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "record":
                named = [word.value for word in node.keywords if word.arg == "action"]
                for action in [*node.args[2:3], *named]:
                    yield f"{path}:{node.lineno}", action


def used_members() -> set[str]:
    """The names of the members of ``AuditAction`` that code speaks of."""
    return {
        node.attr
        for _, module in _modules()
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "AuditAction"
    }


def writers() -> set[str]:
    """The modules with SQL that inserts into the log itself."""
    return {
        path
        for path, module in _modules()
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "INTO audit_log" in node.value
    }


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
