"""Which route a request belongs to. Pure, and on the path of every request.

Of a tenant's routes the most specific counts whose method fits: one whose path is the request's;
or else the longest of which the request's path begins with all segments; or else the first regular
expression, by ``priority``, then by age. Of routes with the same path, one that names the method
comes before one for all methods; of those that still are alike, the older one.

A route for ``GET`` takes ``HEAD`` too, since RFC 9110, section 9.3.2, wants the two to be alike,
unless there is one that names ``HEAD`` itself for the same path.

A table never changes: a change makes another one, which shares with it the tenants that are as they
were, and the compiled patterns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from bulkhead_trio.gateway._path_rules import normal_path
from bulkhead_trio.gateway._pattern_rules import Pattern
from bulkhead_trio.gateway._regex_rules import FirstMatch
from bulkhead_trio.gateway.spec import RouteSpec


@attrs.frozen
class TableRoute:
    """What a table has to know of a route.

    Attributes:
        route_id: its id.
        tenant_id: whose it is.
        path: as its document says it.
        path_type: ``exact``, ``prefix`` or ``regex``.
        methods: ``None`` for all.
        priority: of a regular expression; the higher one comes first.
    """

    route_id: str
    tenant_id: str
    path: str
    path_type: str = "prefix"
    methods: frozenset[str] | None = None
    priority: int = 0

    @classmethod
    def of(cls, route_id: str, tenant_id: str, spec: RouteSpec) -> TableRoute:
        """From a document that has been checked."""
        methods = None if spec.methods is None else frozenset(spec.methods)
        return cls(route_id, tenant_id, spec.path, spec.path_type, methods, spec.priority)


class Match:
    """A route that a request belongs to.

    Attributes:
        route_id: the route's.
        path: the request's path in its normal form.
        end: where in it that ends what the route has matched.
    """

    __slots__ = ("end", "path", "route_id")

    def __init__(self, route_id: str, path: bytes, end: int) -> None:
        self.route_id = route_id
        self.path = path
        self.end = end

    def __repr__(self) -> str:
        return f"Match({self.route_id!r}, {self.path!r}, {self.end})"


class RouteTable:
    """All routes of all tenants, ready to be asked. Made by `of`, and by `with_tenant`."""

    __slots__ = ("_tenants",)

    def __init__(self, tenants: Mapping[str, _TenantTable]) -> None:
        self._tenants = tenants

    @classmethod
    def of(cls, routes: Iterable[TableRoute]) -> RouteTable:
        """A table of these, which come in the order of their age."""
        by_tenant: dict[str, list[TableRoute]] = {}
        for route in routes:
            by_tenant.setdefault(route.tenant_id, []).append(route)
        return cls({each: _TenantTable(theirs, {}) for each, theirs in by_tenant.items()})

    def with_tenant(self, tenant_id: str, routes: Sequence[TableRoute]) -> RouteTable:
        """A table in which one tenant has these routes, in the order of their age, and no others.

        Where the tenant has thousands, this takes long enough to be called in a thread.
        """
        before = self._tenants.get(tenant_id)
        tenants = {each: table for each, table in self._tenants.items() if each != tenant_id}
        if routes:
            known = {} if before is None else before.patterns
            tenants[tenant_id] = _TenantTable(routes, known)
        return RouteTable(tenants)

    def match(self, tenant_id: str, method: str, raw_path: bytes) -> Match | None:
        """The route of a request; ``None`` where there is none, or its path is ambiguous.

        Args:
            tenant_id: whose request it is.
            method: as it was sent.
            raw_path: as it was sent, without the query.
        """
        table = self._tenants.get(tenant_id)
        if table is None:
            return None
        path = normal_path(raw_path)
        return None if path is None else table.match(method, path)


class _Choice:
    """Routes of one path, by method."""

    __slots__ = ("any", "named")

    def __init__(self) -> None:
        self.named: dict[str, str] = {}
        self.any: str | None = None

    def add(self, route: TableRoute) -> None:
        """One more, younger than those before."""
        if route.methods is None:
            if self.any is None:
                self.any = route.route_id
        else:
            for method in route.methods:
                self.named.setdefault(method, route.route_id)

    def settle(self) -> None:
        """All are there now."""
        if "GET" in self.named:
            self.named.setdefault("HEAD", self.named["GET"])


class _Node:
    """A segment of prefixes."""

    __slots__ = ("choice", "next")

    def __init__(self) -> None:
        self.next: dict[bytes, _Node] = {}
        self.choice: _Choice | None = None


class _TenantTable:
    """One tenant's routes."""

    __slots__ = ("_exact", "_prefixes", "_regexes", "_regexes_in_order", "patterns")

    def __init__(self, routes: Iterable[TableRoute], known: Mapping[str, Pattern]) -> None:
        self._exact: dict[bytes, _Choice] = {}
        self._prefixes = _Node()
        regexes: list[TableRoute] = []
        choices: list[_Choice] = []
        for route in routes:
            if route.path_type == "regex":
                regexes.append(route)
                continue
            choice = self._choice(route)
            choice.add(route)
            choices.append(choice)
        for choice in choices:
            choice.settle()
        regexes.sort(key=lambda route: -route.priority)
        patterns = [known.get(each.path) or Pattern(each.path) for each in regexes]
        self.patterns: Mapping[str, Pattern] = {each.text: each for each in patterns}
        self._regexes_in_order = [
            (each.route_id, pattern) for each, pattern in zip(regexes, patterns, strict=True)
        ]
        self._regexes = (
            FirstMatch(patterns, [_with_head(each.methods) for each in regexes])
            if regexes
            else None
        )

    def _choice(self, route: TableRoute) -> _Choice:
        path = normal_path(route.path.encode("ascii")) or b"/"
        if route.path_type == "exact":
            return self._exact.setdefault(path, _Choice())
        node = self._prefixes
        for segment in path.strip(b"/").split(b"/") if path != b"/" else ():
            node = node.next.setdefault(segment, _Node())
        if node.choice is None:
            node.choice = _Choice()
        return node.choice

    def match(self, method: str, path: bytes) -> Match | None:
        """The route of a request by its path in normal form."""
        choice = self._exact.get(path)
        if choice is not None:
            found = choice.named.get(method) or choice.any
            if found is not None:
                return Match(found, path, len(path))
        return self._match_prefix(method, path) or self._match_regex(method, path)

    def _match_prefix(self, method: str, path: bytes) -> Match | None:
        node: _Node | None = self._prefixes
        found: str | None = None
        place = end = 0  # up to where has been read; up to where the best so far matches
        while node is not None:
            choice = node.choice
            if choice is not None:
                better = choice.named.get(method) or choice.any
                if better is not None:
                    found, end = better, place
            if place == len(path) or not node.next:
                break
            after = path.find(b"/", place + 1)
            if after < 0:
                after = len(path)
            node = node.next.get(path[place + 1 : after])
            place = after
        return None if found is None else Match(found, path, end)

    def _match_regex(self, method: str, path: bytes) -> Match | None:
        if self._regexes is None:
            return None
        rank = self._regexes.find(path, method)
        if rank is None:
            return None
        route_id, pattern = self._regexes_in_order[rank]
        return Match(route_id, path, pattern.end_of_match(path) or 0)


def _with_head(methods: frozenset[str] | None) -> frozenset[str] | None:
    return methods | {"HEAD"} if methods is not None and "GET" in methods else methods
