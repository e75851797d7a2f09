"""The file: what is written can be read, and means the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.gateway.as_code._plan_rules import KeptRoute, KeptTenant
from bulkhead_trio.gateway.as_code.applying import plan_for
from bulkhead_trio.gateway.as_code.document import (
    NO_TENANT,
    GatewayFile,
    read_file,
    route_document,
    write_file,
)
from bulkhead_trio.gateway.spec import RouteSpec, read_spec, spec_json
from bulkhead_trio.http.client.network import NetworkPolicy
from bulkhead_trio.tenancy.documents import read_tenant, tenant_document

TIERS = ("free", "pro")


def read(text: str) -> GatewayFile:
    return read_file(text, tiers=TIERS, check_url=NetworkPolicy().check_url)


def spec(**members: Any) -> RouteSpec:
    document = {"tenantId": NO_TENANT, "path": "/", **members}
    document.setdefault("upstreams", [{"url": "https://a.example"}])
    return read_spec(msgspec.json.encode(document))


def test_documentation_shows_a_file_that_is_right(repository: Path) -> None:
    """The example of the page, and what it says of it."""
    page = (repository / "docs/gateway/configuration-as-code.md").read_text()
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tenant,) = read(text).tenants.values()
    assert tenant.document["weight"] == 2
    assert tenant.routes[0]["resilience"]["retry"] == {"enabled": True}


def test_route_is_written_without_its_defaults() -> None:
    """But what protects it stays to be seen, and a default that is written out changes nothing."""
    short = route_document(spec(resilience={"bulkhead": {}, "retry": {"maxRetries": 3}}))
    assert short == {
        "path": "/",
        "upstreams": [{"url": "https://a.example"}],
        "resilience": {"bulkhead": {"enabled": True}, "retry": {"enabled": True}},
    }
    whole = msgspec.json.decode(spec_json(spec(**short)))
    assert route_document(spec(**{**whole, "path": "/"})) == short


RESILIENCE = st.fixed_dictionaries(
    {},
    optional={
        "circuitBreaker": st.fixed_dictionaries(
            {"enabled": st.booleans()},
            optional={"failureRateThreshold": st.floats(1, 100), "timeout": st.integers(1, 99)},
        ),
        "retry": st.fixed_dictionaries({}, optional={"maxRetries": st.integers(0, 10)}),
        "timeout": st.fixed_dictionaries(
            {},
            optional={
                "default": st.integers(1, 1000),
                "byMethod": st.dictionaries(
                    st.sampled_from(["GET", "PUT", "POST"]), st.integers(1, 9)
                ),
            },
        ),
        "fallback": st.fixed_dictionaries(
            {"body": st.text(st.characters(exclude_categories=["Cs"]), max_size=8)}
        ),
    },
)
ROUTES = st.fixed_dictionaries(
    {"path": st.sampled_from(["/", "/a", "/a/b"])},
    optional={
        "pathType": st.sampled_from(["exact", "prefix", "regex"]),
        "method": st.sampled_from(["GET", ["PUT", "GET"], "*"]),
        "upstreams": st.sampled_from(
            [[{"url": "https://a.example", "weight": 2}, {"url": "http://b.example:81/base"}]]
        ),
        "transform": st.fixed_dictionaries(
            {
                "request": st.fixed_dictionaries(
                    {
                        "headers": st.fixed_dictionaries(
                            {
                                "set": st.dictionaries(
                                    st.sampled_from(["X-A", "x-b", "Authorization"]),
                                    st.sampled_from(["", "x", 'a "b" \\c']),
                                )
                            }
                        )
                    }
                )
            }
        ),
        "resilience": RESILIENCE,
    },
)
NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
TENANTS = st.fixed_dictionaries(
    {"tier": st.sampled_from(TIERS)},
    optional={
        "active": st.booleans(),
        "weight": st.integers(1, 9),
        "rateLimit": st.none()
        | st.fixed_dictionaries(
            {"limit": st.integers(1, 10**9), "windowSeconds": st.floats(0.001, 86_400)}
        ),
    },
)


def kept(name: str, members: Mapping[str, Any], routes: list[dict[str, Any]]) -> KeptTenant:
    document = tenant_document(read_tenant({"name": name, **members}, tiers=TIERS))
    numbered = [
        KeptRoute(str(number), 1, route_document(spec(**each)))
        for number, each in enumerate(routes)
    ]
    return KeptTenant(name, 1, document, tuple(numbered))


def matched(route: dict[str, Any]) -> tuple[str, ...]:
    """What it matches; of two that match the same a tenant has but one."""
    return route["path"], route.get("pathType", "prefix"), str(route.get("method", "*"))


@given(
    st.dictionaries(
        NAMES, st.tuples(TENANTS, st.lists(ROUTES, max_size=3, unique_by=matched)), max_size=3
    ),
    st.booleans(),
)
def test_exported_file_changes_nothing(
    tenants: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]], show_secrets: bool
) -> None:
    """Whatever there is: the file of it is right, has nothing to do, and is always the same."""
    stock = {name: kept(name, *each) for name, each in tenants.items()}
    text = write_file(stock, show_secrets=show_secrets)
    assert plan_for(read(text), stock, prune=True).steps == ()
    backwards = {
        name: KeptTenant(each.id, each.version, each.document, each.routes[::-1])
        for name, each in reversed(stock.items())
    }
    assert write_file(backwards, show_secrets=show_secrets) == text
