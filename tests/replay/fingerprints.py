"""The order in which each workflow type can issue commands, read from its source.

Temporal replays a workflow's code against the history of commands that it issued. A change of their order or kind
breaks every execution that is under way. Recorded histories notice that on the paths that they took; a fingerprint
notices it on every path: it lists the calls that issue commands, in source order, following our own methods and
functions.

``python -m tests.replay.fingerprints`` writes ``fingerprints.json`` anew; read ``docs/howto/change-a-workflow.md``
first.
"""

import ast
import inspect
import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType

from temporalio import workflow

from worker.registry import WORKFLOWS

FILE = Path(__file__).with_name("fingerprints.json")
OURS = ("workflows", "tests")

COMMANDS = frozenset(
    {
        "continue_as_new",
        "deprecate_patch",
        "execute_activity",
        "execute_activity_class",
        "execute_activity_method",
        "execute_child_workflow",
        "execute_local_activity",
        "execute_local_activity_class",
        "execute_local_activity_method",
        "get_external_workflow_handle",
        "get_external_workflow_handle_for",
        "patched",
        "sleep",
        "start_activity",
        "start_activity_class",
        "start_activity_method",
        "start_child_workflow",
        "start_local_activity",
        "start_local_activity_class",
        "start_local_activity_method",
        "upsert_memo",
        "upsert_search_attributes",
        "wait_condition",
    }
)
"""Functions of ``temporalio.workflow`` that put a command into the history (``wait_condition`` by its timeout)."""
TIMERS = frozenset({"sleep", "timeout", "timeout_at", "wait_for"})
"""Functions of ``asyncio`` that start a timer when a workflow calls them."""
UNORDERED = frozenset({"as_completed", "wait"})
"""Functions of ``asyncio`` whose order is not deterministic; ``temporalio.workflow`` has both."""


@dataclass(frozen=True)
class Scope:
    """Where a function's names are looked up.

    Attributes:
        owner: The class that ``self`` is of.
    """

    module: ModuleType
    owner: type | None


def fingerprint(workflow_type: type) -> list[str]:
    """The command-issuing calls of a workflow in source order: the run method first, then its handlers."""
    definition = workflow._Definition.must_from_class(workflow_type)
    handlers: list[Callable[..., object]] = [definition.run_fn]
    handlers += [definition.signals[name].fn for name in sorted(definition.signals, key=str)]
    handlers += [definition.updates[name].fn for name in sorted(definition.updates, key=str)]
    scope = Scope(import_module(workflow_type.__module__), workflow_type)
    lines: list[str] = []
    for handler in handlers:
        lines.append(f"{handler.__name__}:")
        lines += [f"  {line}" for line in _calls_of(handler, scope, ())]
    return lines


def _calls_of(function: object, scope: Scope, under: tuple[object, ...]) -> Iterator[str]:
    if function in under:
        return  # recursion adds no new order
    assert isinstance(function, FunctionType)
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset, -(node.end_col_offset or 0))):
        yield from _lines_for(call, scope, (*under, function))


def _lines_for(call: ast.Call, scope: Scope, under: tuple[object, ...]) -> Iterator[str]:
    name, target = _resolve(call.func, scope)
    if isinstance(target, FunctionType) and target.__module__.partition(".")[0] in OURS:
        inner = list(_calls_of(target, _scope_of(target, scope), under))
        if inner:
            yield f"{name}:"
            yield from (f"  {line}" for line in inner)
    elif _is_command(target):
        yield f"{name}({ast.unparse(call.args[0]) if call.args and _names_work(name) else ''})"


def _resolve(callee: ast.expr, scope: Scope) -> tuple[str, object]:
    """The name as written without ``self``, and the object that it means, or ``None`` if that is not known."""
    if isinstance(callee, ast.Name):
        return callee.id, getattr(scope.module, callee.id, None)
    if isinstance(callee, ast.Attribute) and isinstance(callee.value, ast.Name):
        if callee.value.id == "self":
            return callee.attr, inspect.getattr_static(scope.owner, callee.attr, None) if scope.owner else None
        holder = getattr(scope.module, callee.value.id, None)
        return callee.attr, getattr(holder, callee.attr, None)
    return "", None


def _scope_of(function: FunctionType, scope: Scope) -> Scope:
    if scope.owner is not None and inspect.getattr_static(scope.owner, function.__name__, None) is function:
        return scope
    return Scope(import_module(function.__module__), None)


def _is_command(target: object) -> bool:
    name = getattr(target, "__name__", "")
    module = getattr(target, "__module__", None) or ""
    if module.startswith("temporalio.workflow"):
        return name in COMMANDS
    return module.partition(".")[0] == "asyncio" and name in TIMERS | UNORDERED


def _names_work(name: str) -> bool:
    """Whether the first argument says which activity, child or patch; elsewhere it may change freely."""
    return "activity" in name or "child_workflow" in name or name in ("patched", "deprecate_patch")


def present() -> dict[str, list[str]]:
    """The fingerprints of the code as it is."""
    return {one.__name__: fingerprint(one) for one in WORKFLOWS}


def recorded() -> dict[str, list[str]]:
    """The fingerprints that were reviewed last."""
    found: dict[str, list[str]] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Writes the file anew."""
    FILE.write_text(json.dumps(present(), indent=2, sort_keys=True) + "\n", encoding="utf-8")
    sys.stdout.write(f"wrote {FILE.name}; say in the commit why open executions can go on with the new order\n")


if __name__ == "__main__":
    main()
