"""Writes the table of actions in ``docs/reference/audit.md``: ``python -m tests.policy.audit_actions``.

The test beside this module fails when the page and ``domain.audit.actions`` differ, and when code records an action
that the enum does not have.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from domain.audit.actions import DESCRIPTIONS, AuditAction

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "audit.md"
BEGIN = "<!-- actions: written by python -m tests.policy.audit_actions -->"
END = "<!-- end of actions -->"
PACKAGES = ("activities", "api", "cli", "database")


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


def recorded_actions() -> Iterator[tuple[str, str]]:
    """Where an action is recorded by its text, and the text."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and _is_record(node) and len(node.args) > 2:
                    action = node.args[2]
                    if isinstance(action, ast.Constant) and isinstance(action.value, str):
                        yield f"{path.relative_to(ROOT)}:{action.lineno}", action.value


def _is_record(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "record"


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
