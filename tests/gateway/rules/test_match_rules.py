"""Which route a request belongs to: tables, a naive model, and what a match may cost."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkhead_trio.gateway._match_rules import RouteTable, TableRoute
from bulkhead_trio.gateway._path_rules import normal_path

from .documents import TENANT, changed, read

T = "tenant"
MATCH_MICROSECONDS = 20.0
"""What a match may cost among 10,000 routes."""


def route(route_id: str, path: str, kind: str = "prefix", *methods: str, **more: int) -> TableRoute:
    return TableRoute(route_id, T, path, kind, frozenset(methods) if methods else None, **more)


def found(table: RouteTable, method: str, path: str) -> str | None:
    match = table.match(T, method, path.encode())
    return None if match is None else match.route_id


SPECIFIC = RouteTable.of(
    [
        route("regex low", "/api/[a-z]+$", "regex", priority=1),
        route("regex high", "/api/u[a-z]+$", "regex", priority=2),
        route("api", "/api"),
        route("api users post", "/api/users", "prefix", "POST"),
        route("api users put", "/api/users/", "prefix", "PUT"),
        route("exact", "/api/users/me", "exact", "GET"),
        route("exact slash", "/api/users/me/", "exact"),
        route("regex put", "^/x/[0-9]+", "regex", "PUT", priority=9),
        route("regex x", "^/x/", "regex"),
        route("old", "/same", "exact", "GET"),
        route("young", "/same", "exact", "GET", "PUT"),
        route("all", "/same", "exact"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/api/users/me", "exact"),
        ("GET", "/api/users/me/", "exact slash"),
        ("POST", "/api/users/me", "api users post"),
        ("PUT", "/api/users/me", "api users put"),
        ("DELETE", "/api/users/me", "api"),
        ("GET", "/api", "api"),
        ("GET", "/api/", "api"),
        ("GET", "/api//users", "api"),
        ("PUT", "/api/users", "api users put"),
        ("GET", "/apis", None),
        ("GET", "/ap", None),
        ("GET", "/API", None),
        ("GET", "/", None),
        ("GET", "/x/5", "regex x"),
        ("PUT", "/x/5", "regex put"),
        ("PUT", "/x/y", "regex x"),
        ("PUT", "/y/x/5", None),
        ("get", "/same", "all"),
        ("GET", "/same", "old"),
        ("PUT", "/same", "young"),
        ("HEAD", "/same", "old"),
        ("POST", "/same", "all"),
    ],
)
def test_table_takes_the_most_specific_that_fits(
    method: str, path: str, expected: str | None
) -> None:
    """Exact, then the longest prefix, then regex; who does not take the method does not match."""
    assert found(SPECIFIC, method, path) == expected


def test_table_takes_prefixes_before_patterns() -> None:
    """Whatever their priority."""
    routes = [route("p", "/a"), route("r", "/a/b$", "regex", priority=1000)]
    assert found(RouteTable.of(routes), "GET", "/a/b") == "p"


def test_table_orders_patterns_by_priority_and_age() -> None:
    """The higher priority first; of equal ones the older."""
    routes = [
        route("old", "/a", "regex"),
        route("young", "/a.*", "regex"),
        route("low", "/.*", "regex", priority=-1),
        route("high", "/abc", "regex", priority=1),
    ]
    table = RouteTable.of(routes)
    assert [found(table, "GET", path) for path in ("/abc", "/ab", "/x")] == ["high", "old", "low"]


def test_table_lets_head_go_where_get_goes_unless_it_is_named() -> None:
    """HEAD is GET without a body; a route of its own comes first for the same path."""
    routes = [
        route("get", "/a", "exact", "GET"),
        route("head", "/a", "exact", "HEAD"),
        route("get b", "/b", "prefix", "GET"),
        route("get c", "/c", "regex", "GET"),
        route("post", "/d", "prefix", "POST"),
    ]
    table = RouteTable.of(routes)
    paths = ("/a", "/b", "/c", "/d")
    assert [found(table, "HEAD", path) for path in paths] == ["head", "get b", "get c", None]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/%61pi/%75sers/me", "exact"),
        ("/api/users%2Fme", "api"),
        ("/api%2fusers/me", None),
        ("/api/../admin", None),
        ("/api/%2e%2e/admin", None),
        ("/x/../api/users/me", None),
        ("/api/users/me%00", None),
        ("/api/./users/me", None),
        ("/api/users/me%2f..%2fx", None),
        ("/api/..;/admin", None),
        ("//api/users/me", None),
        ("/api/users/m%E9", "api"),
        ("api", None),
        ("*", None),
        ("", None),
    ],
)
def test_table_reads_paths_as_they_look(path: str, expected: str | None) -> None:
    """An escaped letter is that letter; an escaped slash, dots and NUL are no way round a route."""
    assert found(SPECIFIC, "GET", path) == expected


def test_table_says_where_the_match_ends() -> None:
    """In the normal form: the whole path, the prefix without a slash at its end, or the text."""
    table = RouteTable.of(
        [
            route("root", "/"),
            route("exact", "/e", "exact"),
            route("prefix", "/p/q/"),
            route("regex", "/r[0-9]+", "regex"),
        ]
    )
    ends = {}
    for path in ("/e", "/%70/q", "/p/q/x", "/x"):
        match = table.match(T, "GET", path.encode())
        assert match is not None
        ends[path] = (match.path, match.end)
    assert ends == {
        "/e": (b"/e", 2),
        "/%70/q": (b"/p/q", 4),
        "/p/q/x": (b"/p/q/x", 4),
        "/x": (b"/x", 0),
    }
    match = RouteTable.of([route("regex", "/r[0-9]+", "regex")]).match(T, "GET", b"/r12/x")
    assert match is not None
    assert match.end == 4


def test_table_keeps_tenants_apart() -> None:
    """A route is its tenant's; nobody else has it, and whoever has none has none."""
    mine, other = route("mine", "/a"), TableRoute("other", "U", "/b")
    table = RouteTable.of([mine, other])
    assert [table.match(t, "GET", b"/a") is not None for t in (T, "U", "V")] == [True, False, False]


def test_table_with_a_tenants_new_routes_leaves_the_old_table_alone() -> None:
    """Whoever still asks the old one gets old answers; other tenants are the same in both."""
    before = RouteTable.of(
        [route("a", "/a"), route("r", "/r.*", "regex"), TableRoute("u", "U", "/")]
    )
    after = before.with_tenant(T, [route("b", "/b"), route("r2", "/r.*", "regex")])
    gone = after.with_tenant(T, [])
    assert [found(each, "GET", "/a") for each in (before, after, gone)] == ["a", None, None]
    assert [found(each, "GET", "/b") for each in (before, after, gone)] == [None, "b", None]
    assert [found(each, "GET", "/rx") for each in (before, after, gone)] == ["r", "r2", None]
    assert all(each.match("U", "GET", b"/x") is not None for each in (before, after, gone))


def test_table_route_says_what_its_document_says() -> None:
    """Path, kind, methods and priority."""
    document = changed(
        ("path", "/x.*"), ("pathType", "regex"), ("priority", 3), ("method", ["PUT", "GET"])
    )
    assert TableRoute.of("id", TENANT, read(document)) == TableRoute(
        "id", TENANT, "/x.*", "regex", frozenset(["GET", "PUT"]), 3
    )
    assert TableRoute.of("id", TENANT, read(changed())).methods is None


# --- against a model -----------------------------------------------------------------------------

SEGMENTS = ["a", "b", "ab", "%C3%A4", ""]
PATTERNS = ["/a", "^/a/b$", "/[ab]+/b", "/.*/a/.*", "/(a|b)/ab$", "/%C3%A4/", "(?i)/A", "/.*"]

literal = st.lists(st.sampled_from(SEGMENTS[:4]), max_size=3).map(lambda s: "/" + "/".join(s))
with_slash = st.tuples(literal, st.sampled_from(["", "/"])).map(
    lambda both: both[0] if both[0] == "/" else both[0] + both[1]
)
methods = st.sampled_from(
    [None, frozenset(["GET"]), frozenset(["PUT"]), frozenset(["GET", "HEAD"])]
)
specs = st.one_of(
    st.tuples(with_slash, st.sampled_from(["exact", "prefix"]), methods, st.just(0)),
    st.tuples(st.sampled_from(PATTERNS), st.just("regex"), methods, st.integers(-1, 1)),
)
request_paths = st.lists(
    st.sampled_from([*SEGMENTS, "A", "%61", "%c3%a4", "..", "%2f", "%2e%2e"]), max_size=4
).map(lambda s: "/" + "/".join(s))


def naive(routes: list[TableRoute], method: str, raw: str) -> str | None:
    """The rules as they are told, tried on one route after the other."""
    normal = normal_path(raw.encode())
    if normal is None:
        return None
    path = normal.decode()
    best: tuple[tuple[float, ...], str] | None = None
    for age, each in enumerate(routes):
        plain = each.path.rstrip("/")
        takes = each.methods is None or method in each.methods
        implied = not takes and method == "HEAD" and each.methods is not None
        if not takes and not (implied and "GET" in (each.methods or ())):
            continue
        if each.path_type == "exact" and path == each.path:
            place: tuple[float, ...] = (0, 0)
        elif each.path_type == "prefix" and (path == plain or path.startswith(plain + "/")):
            place = (1, -len(plain))
        elif each.path_type == "regex" and re2.match(each.path, path):
            place = (2, -each.priority)
        else:
            continue
        if each.path_type != "regex":
            place += (2.0 if each.methods is None else 1.0 if implied else 0.0,)
        order = (*place, age)
        if best is None or order < best[0]:
            best = (order, each.route_id)
    return None if best is None else best[1]


@given(
    several=st.lists(specs, max_size=10),
    asked=st.lists(
        st.tuples(st.sampled_from(["GET", "HEAD", "PUT", "POST"]), request_paths),
        min_size=1,
        max_size=6,
    ),
)
@settings(max_examples=500, deadline=None)
def test_table_agrees_with_trying_every_route(
    several: list[tuple[str, str, frozenset[str] | None, int]], asked: list[tuple[str, str]]
) -> None:
    """Whatever routes there are and whatever is asked, also of a table made from another."""
    routes = [
        TableRoute(str(number), T, path, kind, names, priority)
        for number, (path, kind, names, priority) in enumerate(several)
    ]
    table = RouteTable.of(routes)
    grown = RouteTable.of(routes[: len(routes) // 2]).with_tenant(T, routes)
    for method, path in asked:
        expected = naive(routes, method, path)
        assert found(table, method, path) == expected
        assert found(grown, method, path) == expected


# --- what it costs -------------------------------------------------------------------------------

KINDS: list[tuple[str, Callable[[int], str], Callable[[int], str]]] = [
    ("exact", lambda n: f"/api/r{n}/items", lambda n: f"/api/r{n}/items"),
    ("prefix", lambda n: f"/api/r{n}/items", lambda n: f"/api/r{n}/items/5/x"),
    ("regex", lambda n: f"^/r{n}/[0-9]+$", lambda n: f"/r{n}/77"),
    ("regex", lambda n: f"^/api/[a-z]+/r{n}/(.*)$", lambda n: f"/api/users/r{n}/77"),
    ("regex", lambda n: f"^/(.*)/r{n}$", lambda n: f"/api/users/r{n}"),
    ("regex", lambda n: f"^/r{n}-[a-z]+/x$", lambda n: f"/r{n}-abc/x"),
]


@pytest.mark.parametrize(("kind", "pattern", "path"), KINDS)
def test_table_of_ten_thousand_routes_is_quick(
    kind: str, pattern: Callable[[int], str], path: Callable[[int], str]
) -> None:
    """A match stays within its bound; the fastest of some rounds, since others use this machine."""
    count = 10_000
    table = RouteTable.of(route(str(n), pattern(n), kind) for n in range(count))
    asked = [(str(n), path(n).encode()) for n in range(0, count, 20)]
    rounds = []
    gc.disable()
    try:
        for _ in range(7):
            began = time.perf_counter()
            answers = [table.match(T, "GET", raw) for _, raw in asked]
            rounds.append(time.perf_counter() - began)
    finally:
        gc.enable()
    assert [match and match.route_id for match in answers] == [route_id for route_id, _ in asked]
    assert min(rounds) / len(asked) * 1e6 < MATCH_MICROSECONDS
