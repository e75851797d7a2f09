"""Which headers pass, which stay, and what is told about whom."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from bulkhead_trio.testing.upstream import Answer, RequestSeen, ScriptedUpstreamProcess, always

from .._client import Answer as Got
from .._problems import assert_problem
from ._gateway import Gateway, Tenant

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
async def tenant(gateway: Gateway, upstream: ScriptedUpstreamProcess) -> Tenant:
    """With one route for everything, to the upstream."""
    tenant = await gateway.tenant()
    await gateway.route(tenant, upstream.url)
    return tenant


async def seen_of(
    gateway: Gateway,
    upstream: ScriptedUpstreamProcess,
    tenant: Tenant,
    *headers: tuple[str, str],
    **options: Any,
) -> RequestSeen:
    """What the upstream saw of a request with these headers."""
    answer = await gateway.ask(tenant, "/x", headers=headers, **options)
    assert answer.status == 200, str(answer)
    return upstream.seen().requests[-1]


async def answered(
    gateway: Gateway,
    upstream: ScriptedUpstreamProcess,
    tenant: Tenant,
    *headers: tuple[str, str],
) -> Got:
    """What the caller got of an answer with these headers."""
    upstream.play(always(Answer(headers=headers)))
    return await gateway.ask(tenant, "/x")


async def test_hop_by_hop_fields_stay_here(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant
) -> None:
    """Those of the standard, and whatever Connection names, each way."""
    fields = [
        ("Connection", "X-Mine, keep-alive"),
        ("X-Mine", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic abc"),
        ("TE", "trailers"),
        ("Trailer", "X-T"),
        ("X-Other", "2"),
    ]
    seen = await seen_of(gateway, upstream, tenant, *fields)
    names = {name.lower() for name, _ in seen.headers}
    assert "x-other" in names
    assert not names & {
        "x-mine", "keep-alive", "proxy-connection", "proxy-authorization", "te", "trailer",
    }  # fmt: skip
    got = await answered(
        gateway,
        upstream,
        tenant,
        ("Connection", "X-Mine"),
        ("X-Mine", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authenticate", "Basic"),
        ("X-Other", "2"),
    )
    assert got.header("x-other") == "2"
    for name in ("x-mine", "keep-alive", "proxy-authenticate"):
        assert got.header(name) is None, name


async def test_other_fields_pass_as_they_are(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant
) -> None:
    """Repeated ones in their order; odd values untouched."""
    mine = [("X-A", "1"), ("Cookie", "a=b; c=d"), ("X-A", "2"), ("X-B", "caf\xe9"), ("X-C", "")]
    seen = await seen_of(gateway, upstream, tenant, *mine)
    assert seen.all("x-a") == ["1", "2"]
    assert seen.all("cookie") == ["a=b; c=d"]
    assert (seen.header("x-b"), seen.header("x-c")) == ("caf\xe9", "")
    got = await answered(
        gateway, upstream, tenant, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Server", "u")
    )
    assert got.all("set-cookie") == ["a=1", "b=2"]


async def test_who_passed_it_on_is_told(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant
) -> None:
    """Via is added to; what a caller says of forwarding is not believed."""
    seen = await seen_of(
        gateway,
        upstream,
        tenant,
        ("Via", "1.0 fred"),
        ("X-Forwarded-For", "203.0.113.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
    )
    via = seen.header("via")
    assert via is not None
    assert re.fullmatch(r"1\.0 fred, 1\.1 \S+", via), via
    assert seen.all("x-forwarded-for") == ["127.0.0.1"]
    assert seen.all("x-forwarded-proto") == ["http"]
    assert seen.all("x-forwarded-host") == ["test"]


async def test_request_id_and_trace_go_along(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant
) -> None:
    """One id for the caller and the upstream; a trace is carried on, and a wrong one is not."""
    answer = await gateway.ask(
        tenant, "/x", headers={"X-Request-Id": "my-id", "Traceparent": TRACE}
    )
    seen = upstream.seen().requests[-1]
    assert answer.header("x-request-id") == "my-id"
    assert seen.all("x-request-id") == ["my-id"]
    (trace,) = seen.all("traceparent")
    assert trace.split("-")[1] == TRACE.split("-")[1]
    answer = await gateway.ask(tenant, "/x", headers={"Traceparent": "nonsense"})
    seen = upstream.seen().requests[-1]
    assert seen.all("x-request-id") == [answer.header("x-request-id")]
    assert "nonsense" not in seen.all("traceparent")


async def test_rest_of_the_time_is_told(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant
) -> None:
    """Less than the caller gave, more than nothing."""
    seen = await seen_of(gateway, upstream, tenant, ("X-Request-Timeout", "7.5"))
    (told,) = seen.all("x-request-timeout")
    assert 6.0 < float(told) <= 7.5


async def test_host_is_the_upstreams(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant
) -> None:
    """Once, and as the URL of the route says."""
    seen = await seen_of(gateway, upstream, tenant)
    assert seen.all("host") == [f"127.0.0.1:{upstream.port}"]
    assert seen.version == "1.1"


@pytest.mark.parametrize(
    "target",
    [
        "/x?a=%2f%2F&&b=+&c=%20;d",
        "/x?",
        "/x?a=http://b/c?d=e",
        "/x%20y/%C3%A9?x",
        "/x?a={b}|c^`",
    ],
)
async def test_query_passes_byte_for_byte(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant, target: str
) -> None:
    """Whatever somebody else would have made of it."""
    answer = await gateway.ask(tenant, target)
    assert answer.status == 200, str(answer)
    assert upstream.seen().requests[-1].target.partition("?")[2] == target.partition("?")[2]


@pytest.mark.parametrize(
    ("route", "target", "expected"),
    [
        ({"path": "/api"}, "/api/users?a=b", "/api/users?a=b"),
        ({"path": "/api", "stripPath": True}, "/api/users?a=b", "/users?a=b"),
        ({"path": "/api", "stripPath": True}, "/api", "/"),
        (
            {
                "path": "/api",
                "transform": {
                    "request": {"path": {"pattern": "^/api/(.*)$", "replacement": "/v1/$1"}}
                },
            },
            "/api/users/7?a=/api/",
            "/v1/users/7?a=/api/",
        ),
        ({"path": "/a", "pathType": "exact"}, "/a", "/a"),
        ({"path": "^/u/[0-9]+$", "pathType": "regex"}, "/u/12", "/u/12"),
        ({"path": "^/u/[0-9]+$", "pathType": "regex"}, "/u/x", None),
    ],
)
async def test_paths_are_rewritten_as_the_route_says(
    gateway: Gateway,
    upstream: ScriptedUpstreamProcess,
    route: dict[str, Any],
    target: str,
    expected: str | None,
) -> None:
    """Strip, pattern, or as it is; the query has no part in it."""
    tenant = await gateway.tenant()
    await gateway.route(tenant, upstream.url, **route)
    answer = await gateway.ask(tenant, target)
    if expected is None:
        assert_problem(answer, 404, "route_not_found")
    else:
        assert [request.target for request in upstream.seen().requests] == [expected]


async def test_base_path_of_the_upstream_comes_first(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """With or without a slash at its end."""
    for base in ("/base", "/base/"):
        tenant = await gateway.tenant()
        await gateway.route(tenant, upstream.url + base, path="/api")
        await gateway.ask(tenant, "/api/x?y")
        assert upstream.seen().requests[-1].target == "/base/api/x?y"


async def test_headers_are_transformed(gateway: Gateway, upstream: ScriptedUpstreamProcess) -> None:
    """Set replaces, add adds, remove takes out; requests and answers alike."""
    change = {"headers": {"set": {"X-Set": "new"}, "add": {"X-Add": "2"}, "remove": ["X-Gone"]}}
    tenant = await gateway.tenant()
    await gateway.route(tenant, upstream.url, transform={"request": change, "response": change})
    mine = (("X-Set", "old"), ("X-Set", "older"), ("X-Add", "1"), ("X-Gone", "1"))
    seen = await seen_of(gateway, upstream, tenant, *mine)
    got = await answered(gateway, upstream, tenant, *mine)
    values: list[Callable[[str], list[str]]] = [seen.all, got.all]
    for all_of in values:
        assert all_of("x-set") == ["new"]
        assert ", ".join(all_of("x-add")) == "1, 2"
        assert all_of("x-gone") == []


async def test_most_specific_route_wins(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, other_upstream: ScriptedUpstreamProcess
) -> None:
    """Exact before the longest prefix, that before a shorter one, and regex last."""
    tenant = await gateway.tenant()
    for path, kind in (("/a", "prefix"), ("/a/b", "prefix"), ("/a/b/c", "exact")):
        await gateway.route(
            tenant, f"{upstream.url}/{kind}{path}", path=path, pathType=kind, until_seen=False
        )
    for number in (1, 2):
        await gateway.route(
            tenant, f"{upstream.url}/regex{number}", path="^/.*$", pathType="regex",
            priority=number, until_seen=False,
        )  # fmt: skip
    await gateway.settle()
    for target in ("/a/x", "/a/b/x", "/a/b/c", "/a/b/c/d"):
        await gateway.ask(tenant, target)
    bases = [request.target.removesuffix(t) for request, t in zip(
        upstream.seen().requests, ("/a/x", "/a/b/x", "/a/b/c", "/a/b/c/d"), strict=True
    )]  # fmt: skip
    assert bases == ["/prefix/a", "/prefix/a/b", "/exact/a/b/c", "/prefix/a/b"]
    await gateway.ask(tenant, "/other")
    assert upstream.seen().requests[-1].target.startswith("/regex")
