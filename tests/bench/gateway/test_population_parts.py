"""Tenants, routes and targets of a run, and the configuration of the programs beside ours."""

from __future__ import annotations

import json
import re

from bench.gateway.population import (
    SECRET_KEY,
    Target,
    more_tenants,
    route_document,
    route_path,
    spec_of,
    target_path,
    wrk_script,
)
from bench.peers import haproxy, nginx
from bulkhead_trio.tenancy._key_rules import digest_of, is_ours, key_id_in


def test_paths_of_many_routes_are_apart_and_equally_long() -> None:
    """One is no prefix of another; the cost of their length is the same."""
    paths = {route_path(number) for number in range(10_000)}
    assert len(paths) == 10_000
    assert len({len(path) for path in paths}) == 1
    assert target_path(9_999).startswith(route_path(9_999) + "/")


def test_more_tenants_have_keys_that_the_server_takes() -> None:
    """Made with its secret, the same ones each time, no two alike."""
    made = list(more_tenants(50))
    assert made == list(more_tenants(50))
    assert len({each[0] for each in made}) == len({each[1] for each in made}) == 50
    pepper = SECRET_KEY.encode()
    for _, key_id, digest, text in made:
        assert key_id_in(text) == key_id
        assert is_ours(pepper, key_id)
        assert digest_of(pepper, text) == digest


def test_specs_of_other_routes_differ_by_what_they_must() -> None:
    """Path and tenant; where the saved document names no tenant, none is put in."""
    saved = route_document("a", "http://127.0.0.1:1")
    other = json.loads(spec_of(json.dumps(saved), "b", 7))
    assert other == saved | {"tenantId": "b", "path": route_path(7)}
    del saved["tenantId"]
    assert "tenantId" not in json.loads(spec_of(json.dumps(saved), "b", 7))


def test_script_for_wrk_has_every_target_once() -> None:
    """In a mixed order, the same each time."""
    targets = [Target(target_path(number), f"key{number}") for number in range(100)]
    script = wrk_script(targets)
    found = re.findall(r'\{"(/r/\d+/items/1)", "(key\d+)"\},', script)
    assert sorted(found) == sorted((t.path, t.key) for t in targets)
    assert found != [(t.path, t.key) for t in targets]
    assert script == wrk_script(targets)
    assert "%" in script
    assert "%%" not in script


def test_nginx_proxies_or_answers() -> None:
    """With an upstream it keeps connections to it; without one it is an upstream."""
    proxy = nginx.configuration("8", "/d", "http://127.0.0.1:9", "64")
    assert "server 127.0.0.1:9;" in proxy
    assert "keepalive 64;" in proxy
    assert "proxy_pass http://there;" in proxy
    constant = nginx.configuration("8", "/d", None, "64")
    assert 'return 200 "hello";' in constant
    assert "proxy_pass" not in constant
    for text in (proxy, constant):
        assert text.count("{") == text.count("}")
        assert "listen 127.0.0.1:8 " in text


def test_haproxy_proxies() -> None:
    """One thread, to where it is told."""
    text = haproxy.configuration("8", "http://127.0.0.1:9", "64")
    assert "bind 127.0.0.1:8 " in text
    assert "server one 127.0.0.1:9 maxconn 64" in text
    assert "nbthread 1" in text
