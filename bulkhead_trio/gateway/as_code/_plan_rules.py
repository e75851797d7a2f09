"""What has to be done so that what there is becomes what a file says. Pure.

Documents are decoded JSON in one form for everything that means the same, so that equal documents
are equal routes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import attrs

Document: TypeAlias = Mapping[str, Any]
Kind: TypeAlias = Literal["create", "update", "delete"]
RouteKey: TypeAlias = tuple[str, str, tuple[str, ...]]

ANY_METHOD: Final = "*"
DEFAULT_PATH_TYPE: Final = "prefix"


@attrs.frozen
class KeptRoute:
    """A route that there is.

    Attributes:
        version: which it has.
        document: without its tenant.
    """

    id: str
    version: int
    document: Document


@attrs.frozen
class KeptTenant:
    """A tenant that there is, with all its routes."""

    id: str
    version: int
    document: Document
    routes: tuple[KeptRoute, ...] = ()


@attrs.frozen
class WantedTenant:
    """A tenant that a file describes, with all the routes that it is to have."""

    document: Document
    routes: tuple[Document, ...] = ()


@attrs.frozen
class RouteStep:
    """One route to make, change or delete.

    Attributes:
        kept: what there is; ``None`` where it is to be made.
        wanted: what is to be; ``None`` where it is to be deleted.
    """

    kept: KeptRoute | None
    wanted: Document | None

    @property
    def kind(self) -> Kind:
        """What is to be done."""
        if self.kept is None:
            return "create"
        return "delete" if self.wanted is None else "update"


@attrs.frozen
class TenantStep:
    """What is to be done about a tenant and its routes.

    Attributes:
        kind: what is to be done about the tenant itself; ``None``: nothing.
        kept: what there is; ``None`` where it is to be made.
        wanted: what is to be; ``None`` where it is to be deleted, and its routes with it.
        routes: in the order in which they are shown.
    """

    name: str
    kind: Kind | None
    kept: KeptTenant | None
    wanted: Document | None
    routes: tuple[RouteStep, ...] = ()


@attrs.frozen
class Plan:
    """Everything that is to be done.

    Attributes:
        steps: by the tenants' names.
        left_alone: the names of tenants that the file does not speak of, and that stay.
    """

    steps: tuple[TenantStep, ...]
    left_alone: tuple[str, ...] = ()

    def count(self, what: Literal["tenants", "routes"], kind: Kind) -> int:
        """How many tenants, or routes, are to be made, changed or deleted."""
        if what == "tenants":
            return sum(step.kind == kind for step in self.steps)
        return sum(route.kind == kind for step in self.steps for route in step.routes)


def plan(
    kept: Mapping[str, KeptTenant], wanted: Mapping[str, WantedTenant], *, prune: bool
) -> Plan:
    """What makes of ``kept`` what is ``wanted``, both by the tenants' names.

    Args:
        kept: everything there is.
        wanted: everything that the file says.
        prune: whether tenants of whom it says nothing are to be deleted.
    """
    steps = [_step(name, kept.get(name), each) for name, each in wanted.items()]
    others = sorted(kept.keys() - wanted.keys())
    if prune:
        steps += [TenantStep(name, "delete", kept[name], None) for name in others]
    return Plan(
        tuple(sorted((s for s in steps if s.kind or s.routes), key=lambda step: step.name)),
        () if prune else tuple(others),
    )


def _step(name: str, kept: KeptTenant | None, wanted: WantedTenant) -> TenantStep:
    kind: Kind | None = None
    if kept is None:
        kind = "create"
    elif kept.document != wanted.document:
        kind = "update"
    routes = route_steps(kept.routes if kept is not None else (), wanted.routes)
    return TenantStep(name, kind, kept, wanted.document, routes)


def route_steps(kept: Iterable[KeptRoute], wanted: Iterable[Document]) -> tuple[RouteStep, ...]:
    """What makes of a tenant's routes what is wanted.

    A route has no name: it is known by what it matches. Where several match the same, those that
    are equal belong together, and of the rest the first to the first.
    """
    old: dict[RouteKey, list[KeptRoute]] = {}
    for route in kept:
        old.setdefault(route_key(route.document), []).append(route)
    new: dict[RouteKey, list[Document]] = {}
    for document in wanted:
        new.setdefault(route_key(document), []).append(document)
    steps: list[RouteStep] = []
    for key in sorted(old.keys() | new.keys()):
        steps += _steps_of_one_key(old.get(key, []), new.get(key, []))
    return tuple(steps)


def _steps_of_one_key(old: list[KeptRoute], new: list[Document]) -> list[RouteStep]:
    rest = list(new)
    changed: list[KeptRoute] = []
    for route in old:
        if route.document in rest:
            rest.remove(route.document)
        else:
            changed.append(route)
    steps = [RouteStep(route, document) for route, document in zip(changed, rest, strict=False)]
    steps += [RouteStep(route, None) for route in changed[len(rest) :]]
    steps += [RouteStep(None, document) for document in rest[len(changed) :]]
    return steps


def route_key(document: Document) -> RouteKey:
    """What a route is known by: its path, how that is meant, and its methods."""
    method = document.get("method", ANY_METHOD)
    methods = (method,) if isinstance(method, str) else tuple(sorted(method))
    return str(document["path"]), str(document.get("pathType", DEFAULT_PATH_TYPE)), methods


def sorted_routes(documents: Iterable[Document]) -> list[Document]:
    """The same routes in the one order in which they are written."""
    return sorted(documents, key=lambda each: (route_key(each), json.dumps(each, sort_keys=True)))


def differences(before: Document, after: Document) -> list[tuple[str, Any, Any]]:
    """What differs, member by member: its path and both values, `MISSING` where there is none."""
    old, new = dict(_leaves(before, "")), dict(_leaves(after, ""))
    paths = [*old, *(path for path in new if path not in old)]
    return [
        (path, old.get(path, MISSING), new.get(path, MISSING))
        for path in paths
        if old.get(path, MISSING) != new.get(path, MISSING)
    ]


class _Missing:
    """The type of `MISSING`."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


def _leaves(value: Any, path: str) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping) and (value or not path):
        for name, member in value.items():
            yield from _leaves(member, f"{path}.{name}" if path else name)
    elif isinstance(value, Sequence) and _has_objects(value):
        for number, member in enumerate(value):
            yield from _leaves(member, f"{path}[{number}]")
    elif value is not None:
        yield path, value


def _has_objects(value: Sequence[Any]) -> bool:
    return any(isinstance(member, Mapping) for member in value)
