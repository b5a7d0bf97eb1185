"""What must hold between the steps of a file: unique names, dependencies that exist, no cycle, no step in vain."""

from domain.pipelines.outline import RunOn
from domain.pipelines.problems import PROBLEMS_SHOWN_MAX, Problem, closest, quoted
from domain.pipelines.source import Items, Mapping, Node, Scalar
from domain.pipelines.spec import STEPS_MAX, PipelineSpec, StepSpec


def check_dependencies(root: Node, path: str, problems: list[Problem]) -> None:
    """Adds a problem for each double name, unknown dependency and cycle.

    It reads the tree, not the models, so that a step with other problems still counts as there.
    """
    steps = _steps(root)
    if len(steps) > STEPS_MAX:  # Refused for that alone.
        return

    def add(node: Node, message: str, suggestion: str | None = None) -> None:
        problems.append(Problem(path=path, line=node.line, column=node.column, message=message, suggestion=suggestion))

    named: dict[str, Scalar] = {}
    waits: dict[str, list[Scalar]] = {}
    for step in steps:
        name = _scalar(step, "name")
        if name is None:
            continue
        if name.text in named:
            first = named[name.text].line
            add(name, f"the name {quoted(name.text)} is taken by the step in line {first}; names are unique")
            continue
        named[name.text] = name
        waits[name.text] = _dependencies(step)
    for name_text, dependency in ((name, entry) for name, entries in waits.items() for entry in entries):
        if dependency.text == name_text:
            add(dependency, f"step {quoted(name_text)} depends on itself")
        elif dependency.text not in named:
            # Comparing costs; what is hidden needs no suggestion.
            suggestion = closest(dependency.text, named) if len(problems) < PROBLEMS_SHOWN_MAX else None
            missing = quoted(dependency.text)
            add(dependency, f"step {quoted(name_text)} depends on {missing}, and there is no such step", suggestion)
    for cycle in _cycles(waits):
        chain = " -> ".join((*(entry.text for entry in cycle), cycle[0].text))
        add(cycle[0], f"these steps wait for one another: {chain}")


def check_reachable(spec: PipelineSpec, root: Node, path: str, problems: list[Problem]) -> None:
    """Adds a problem for each step that runs only on failure, though nothing stands before it that could fail."""
    graph = any(step.depends_on is not None for step in spec.steps)
    for index, (step, mapping) in enumerate(zip(spec.steps, _steps(root), strict=True)):
        first = not step.depends_on if graph else index == 0
        if first and _only_on_failure(step):
            why = "depends on no step" if graph else "is the first step"
            message = f"step '{step.name}' runs only on failure, but it {why}, so it would never run"
            problems.append(Problem(path=path, line=mapping.line, column=mapping.column, message=message))


def _only_on_failure(step: StepSpec) -> bool:
    return bool(step.when) and all(RunOn.SUCCESS not in clause.status for clause in step.when or ())


def _steps(root: Node) -> list[Node]:
    steps = root.entries.get("steps", (None, None))[1] if isinstance(root, Mapping) else None
    return list(steps.items) if isinstance(steps, Items) else []


def _scalar(node: Node, key: str) -> Scalar | None:
    value = node.entries.get(key, (None, None))[1] if isinstance(node, Mapping) else None
    return value if isinstance(value, Scalar) and not value.is_null else None


def _dependencies(step: Node) -> list[Scalar]:
    """Every name under ``depends_on``, in any of its forms; what has no name is the models' business."""
    value = step.entries.get("depends_on", (None, None))[1] if isinstance(step, Mapping) else None
    if value is None:
        return []
    found: list[Scalar] = []
    for item in value.items if isinstance(value, Items) else (value,):
        name = item if isinstance(item, Scalar) else _scalar(item, "name")
        if name is not None and not name.is_null:
            found.append(name)
    return found


def _cycles(waits: dict[str, list[Scalar]]) -> list[list[Scalar]]:
    """At least one cycle of each knot of steps, as the dependencies on the way; none of a step that names itself."""
    cycles: list[list[Scalar]] = []
    finished: set[str] = set()

    def visit(name: str, way: list[Scalar]) -> None:
        on_way = [entry.text for entry in way]
        for dependency in waits[name]:
            if dependency.text == name or dependency.text not in waits or dependency.text in finished:
                continue
            if dependency.text in on_way:
                cycles.append([*way[on_way.index(dependency.text) + 1 :], dependency])
            else:
                visit(dependency.text, [*way, dependency])
        finished.add(name)

    for name, entry in ((name, Scalar(name, True, 1, 1)) for name in waits):
        if name not in finished:
            visit(name, [entry])
    return cycles
