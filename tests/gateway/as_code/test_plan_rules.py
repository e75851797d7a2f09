"""What makes of what there is what is wanted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.gateway.as_code._plan_rules import (
    MISSING,
    Document,
    KeptRoute,
    KeptTenant,
    WantedTenant,
    differences,
    plan,
    route_key,
    route_steps,
    sorted_routes,
)


def route(path: str, **members: Any) -> Document:
    return {"path": path, "pathType": "exact", "method": "GET", **members}


def kept(number: int, document: Document) -> KeptRoute:
    return KeptRoute(f"route {number}", number, document)


def tenant(weight: int = 1, *routes: Document) -> KeptTenant:
    numbered = tuple(kept(number, each) for number, each in enumerate(routes))
    return KeptTenant("id", 1, {"weight": weight}, numbered)


def test_plan_has_steps_for_what_differs_only() -> None:
    """Made, changed, the same, and a tenant whose routes alone change."""
    there = {"a": tenant(1), "b": tenant(1), "c": tenant(1, route("/x")), "z": tenant()}
    wanted = {
        "new": WantedTenant({"weight": 1}, (route("/n"),)),
        "a": WantedTenant({"weight": 2}),
        "b": WantedTenant({"weight": 1}),
        "c": WantedTenant({"weight": 1}, ()),
    }
    made = plan(there, wanted, prune=False)
    assert [(step.name, step.kind, len(step.routes)) for step in made.steps] == [
        ("a", "update", 0), ("c", None, 1), ("new", "create", 1),
    ]  # fmt: skip
    assert made.left_alone == ("z",)
    pruned = plan(there, wanted, prune=True)
    assert [(step.name, step.kind) for step in pruned.steps][-1] == ("z", "delete")
    assert pruned.left_alone == ()
    assert (pruned.count("tenants", "delete"), pruned.count("routes", "delete")) == (1, 1)


def test_routes_are_known_by_what_they_match() -> None:
    """Another upstream is a change; another path, method or way of matching another route."""
    old = [kept(1, route("/x", weight=1)), kept(2, route("/y"))]
    steps = route_steps(old, [route("/x", weight=2), route("/y", pathType="prefix")])
    assert [(step.kind, step.kept and step.kept.id) for step in steps] == [
        ("update", "route 1"), ("delete", "route 2"), ("create", None),
    ]  # fmt: skip


def test_methods_have_no_order() -> None:
    """A list of methods means the same in any order; one method is a list of one."""
    assert route_key(route("/x", method=["B", "A"])) == route_key(route("/x", method=["A", "B"]))
    assert route_key(route("/x", method="A")) == route_key(route("/x", method=["A"]))
    assert route_key({"path": "/x"}) == ("/x", "prefix", ("*",))


def test_twins_that_are_equal_stay() -> None:
    """Of routes that match the same, only those are touched that are not wanted as they are."""
    old = [kept(number, route("/x", weight=number)) for number in (1, 2, 3)]
    steps = route_steps(old, [route("/x", weight=3), route("/x", weight=7), route("/x", weight=1)])
    (step,) = steps
    assert (step.kind, step.kept and step.kept.id) == ("update", "route 2")


DOCUMENTS = st.builds(
    lambda path, weight, twins: [route(path, weight=weight)] * twins,
    st.sampled_from("abc"), st.integers(1, 3), st.integers(1, 2),
).map(tuple)  # fmt: skip
ROUTES = st.lists(DOCUMENTS, max_size=4).map(lambda groups: [each for g in groups for each in g])


@given(ROUTES, ROUTES)
def test_steps_lead_from_any_routes_to_any_others(
    before: list[Document], after: list[Document]
) -> None:
    """Doing the steps gives what is wanted, and then there is nothing left to do."""
    there = {f"route {number}": kept(number, each) for number, each in enumerate(before)}
    for number, step in enumerate(route_steps(there.values(), after)):
        if step.kept is not None:
            del there[step.kept.id]
        if step.wanted is not None:
            there[f"made {number}"] = kept(number, step.wanted)
    assert sorted_routes(each.document for each in there.values()) == sorted_routes(after)
    assert route_steps(there.values(), after) == ()


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({}, {}, []),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, [("a.b", 1, 2)]),
        ({"a": [{"u": 1}]}, {"a": [{"u": 1}, {"u": 2}]}, [("a[1].u", MISSING, 2)]),
        ({"a": [1, 2]}, {"a": [1]}, [("a", [1, 2], [1])]),
        ({"a": {}, "b": None}, {}, [("a", {}, MISSING)]),
        ({"x": 1}, {"y": 1}, [("x", 1, MISSING), ("y", MISSING, 1)]),
    ],
)
def test_differences_are_named_by_their_paths(
    before: Document, after: Document, found: list[tuple[str, Any, Any]]
) -> None:
    """Member by member; a list of values is one member; null is as good as absent."""
    assert differences(before, after) == found
