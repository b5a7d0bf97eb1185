from dataclasses import dataclass
from itertools import pairwise

from api.pages.graph import NODE_HEIGHT, NODE_WIDTH, draw


@dataclass(frozen=True)
class Step:
    name: str
    depends_on: tuple[str, ...] = ()


def test_nothing_is_drawn_of_no_steps() -> None:
    assert draw([]).nodes == ()


def test_a_step_stands_behind_its_deepest_dependency_also_if_that_comes_later_in_the_file() -> None:
    graph = draw([Step("d", ("b", "c")), Step("a"), Step("b", ("a",)), Step("c", ("b",))])
    columns = {node.name: node.x for node in graph.nodes}
    assert columns["a"] < columns["b"] < columns["c"] < columns["d"]
    assert len(graph.edges) == 4


def test_steps_of_one_depth_stand_below_each_other_without_overlap() -> None:
    graph = draw([Step(name) for name in "abc"])
    places = sorted((node.x, node.y) for node in graph.nodes)
    assert len({x for x, _ in places}) == 1
    assert all(lower[1] - upper[1] >= NODE_HEIGHT for upper, lower in pairwise(places))
    assert graph.width >= NODE_WIDTH
    assert graph.height >= places[-1][1] + NODE_HEIGHT


def test_a_name_that_is_not_drawn_draws_no_line() -> None:
    assert draw([Step("a", ("gone",))]).edges == ()


def test_a_long_name_is_shortened() -> None:
    (node,) = draw([Step("x" * 63)]).nodes
    assert len(node.label) < 20
    assert node.label.endswith("…")
