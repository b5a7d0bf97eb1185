import ast
import inspect
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pkgutil import walk_packages
from types import ModuleType
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.worker.workflow_sandbox import UnintentionalPassthroughError

import activities
import workflows
from temporal.names import EXECUTION_QUEUE, ORCHESTRATION_QUEUE
from worker.registry import EXECUTION_WORKFLOWS, WORKFLOWS, Activities, registrations
from worker.sandbox import workflow_runner


def modules(package: ModuleType) -> Iterator[ModuleType]:
    for found in walk_packages(package.__path__, package.__name__ + "."):
        yield import_module(found.name)


def defined_workflows() -> set[type]:
    return {
        value
        for module in modules(workflows)
        for value in vars(module).values()
        if inspect.isclass(value) and hasattr(value, "__temporal_workflow_definition")
    }


def activity_names(of: type) -> set[str]:
    found = (getattr(member, "__temporal_activity_definition", None) for member in vars(of).values())
    return {definition.name for definition in found if definition is not None}


def defined_activities() -> set[str]:
    return {
        name
        for module in modules(activities)
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == module.__name__
        for name in activity_names(value)
    }


def registered() -> dict[str, set[str]]:
    """Queue to activity names; built without neighbours, because only the methods are looked at."""
    holders: dict[str, Any] = {field.name: object.__new__(import_type(field.type)) for field in fields(Activities)}
    return {
        one.queue: {activity._Definition.must_from_callable(method).name or "" for method in one.activities}
        for one in registrations(Activities(**holders))
    }


def import_type(annotation: Any) -> type:  # noqa: ANN401  # a field's annotation
    assert inspect.isclass(annotation)
    return annotation


QUEUES = {"EXECUTION_QUEUE": EXECUTION_QUEUE, "ORCHESTRATION_QUEUE": ORCHESTRATION_QUEUE}
ORDERS = ("execute_activity_method", "start_activity_method", "execute_local_activity_method")


def calls_by_queue() -> Iterator[tuple[str, str]]:
    """Each ``execute_activity_method(Class.method, ..., task_queue=X)`` of the workflows: queue and method.

    A function of the module that hands its first parameter on to such a call counts as one itself.
    """
    executing = {one.__name__ for one in EXECUTION_WORKFLOWS}
    for module in modules(workflows):
        parts = ast.parse(inspect.getsource(module)).body
        handing_on = {part.name: part for part in parts if isinstance(part, ast.AsyncFunctionDef)}
        for part in parts:
            own = EXECUTION_QUEUE if getattr(part, "name", "") in executing else ORCHESTRATION_QUEUE
            for node in ast.walk(part):
                if not isinstance(node, ast.Call):
                    continue
                if isinstance(node.func, ast.Name) and node.func.id in handing_on:
                    queues = [queue for queue, _ in orders_in(handing_on[node.func.id], own)]
                    yield from ((queue, named(node.args[0])) for queue in queues)
                elif part not in handing_on.values() and is_order(node):
                    yield queue_of(node, own), named(node.args[0])


def orders_in(function: ast.AsyncFunctionDef, own: str) -> Iterator[tuple[str, ast.expr]]:
    """The calls in a function to which it hands its first parameter on."""
    first = function.args.args[0].arg if function.args.args else None
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and is_order(node):
            target = node.args[0]
            assert isinstance(target, ast.Name), f"{function.name} is to hand its first parameter on"
            assert target.id == first
            yield queue_of(node, own), target


def is_order(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Attribute) and node.func.attr in ORDERS


def queue_of(node: ast.Call, own: str) -> str:
    chosen = next((word.value for word in node.keywords if word.arg == "task_queue"), None)
    return QUEUES[chosen.id] if isinstance(chosen, ast.Name) else own


def named(target: ast.expr) -> str:
    assert isinstance(target, ast.Attribute), "name the method of the class, so that its type is checked"
    return target.attr


def test_every_workflow_is_registered() -> None:
    assert set(WORKFLOWS) == defined_workflows()
    assert [one.__name__ for one in WORKFLOWS] == sorted(one.__name__ for one in WORKFLOWS)


def test_every_activity_is_registered_on_some_queue() -> None:
    assert set().union(*registered().values()) == defined_activities()


def test_every_call_goes_to_a_queue_that_serves_it() -> None:
    served = registered()
    calls = set(calls_by_queue())
    assert (EXECUTION_QUEUE, "finish_run") in calls
    for queue, method in calls:
        assert method in served[queue], f"{method} is called on {queue}, which does not serve it"


@pytest.mark.parametrize("workflow_type", WORKFLOWS)
async def test_every_workflow_loads_in_the_sandbox(workflow_type: type) -> None:
    workflow_runner().prepare_workflow(workflow._Definition.must_from_class(workflow_type))


async def test_an_import_that_nobody_thought_about_is_refused() -> None:
    stray = import_module("tests.worker.stray")
    with pytest.raises(UnintentionalPassthroughError, match="httpx"):
        workflow_runner().prepare_workflow(workflow._Definition.must_from_class(stray.StrayWorkflow))
