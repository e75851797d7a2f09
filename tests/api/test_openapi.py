"""The OpenAPI document: that it is well made and complete."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from bulkhead_trio.api._openapi import openapi_document
from bulkhead_trio.api._openapi._route_words import WORDS
from bulkhead_trio.api._openapi.errors import PROXIED, UNROUTED
from bulkhead_trio.api._problem import CONTENT_TYPE, KINDS

from ._schema import check, resolve
from ._world import ALL_PATHS, DOCUMENT, TIERS, codes_of, described, make_world, operation


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document."""
    if isinstance(value, dict):
        yield value
        for member in value.values():
            yield from nodes(member)
    elif isinstance(value, list | tuple):
        for member in value:
            yield from nodes(member)


def test_document_every_reference_leads_somewhere() -> None:
    """No reference dangles or leaves the document."""
    references = [node for node in nodes(DOCUMENT) if "$ref" in node]
    assert len(references) > 50
    for reference in references:
        assert resolve(DOCUMENT, reference)


def test_document_has_no_component_that_nothing_uses() -> None:
    """What is in the components is referred to, or is what a request for no operation gets."""
    used = {node["$ref"] for node in nodes(DOCUMENT) if "$ref" in node}
    used |= {
        f"#/components/securitySchemes/{name}"
        for path in ALL_PATHS
        for requirement in operation(path).get("security", ())
        for name in requirement
    }
    for kind, members in DOCUMENT["components"].items():
        for name in members:
            if kind == "responses" and name in UNROUTED:
                continue
            # Where it is answered together with others, a shared code has its example only.
            if kind == "responses" and f"#/components/examples/{name}" in used:
                continue
            assert f"#/components/{kind}/{name}" in used


async def test_document_has_exactly_the_routes_of_the_resources() -> None:
    """Every route is described, and everything described is a route."""
    routes = {
        (route.method.lower(), route.path)
        for resource in make_world().resources
        for route in resource.routes()
    }
    assert routes == {
        (method, path)
        for path, item in DOCUMENT["paths"].items()
        for method in item
        if method != "parameters"
    }
    named = {path.rpartition(" ")[::2] for path in ALL_PATHS}
    assert {path for _, path in named} == {path for _, path in routes}
    assert {(method.lower(), path) for method, path in named if method} <= routes
    assert len(named) == len(routes)


def test_document_operations_have_ids_tags_and_answers_of_their_own() -> None:
    """Ids are unique, tags declared, every status is one, every answer carries the request's id."""
    ids = [operation(path)["operationId"] for path in ALL_PATHS]
    assert len(set(ids)) == len(ids)
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    for path in ALL_PATHS:
        assert set(operation(path)["tags"]) <= tags
        assert {"200", "201", "202", "204"} & operation(path)["responses"].keys()
        for status in operation(path)["responses"]:
            assert 200 <= int(status) < 600
            assert described(path, int(status))["description"]
            assert "X-Request-Id" in described(path, int(status))["headers"]


def test_document_names_every_code_that_this_version_answers() -> None:
    """The codes of the table and of the document are the same."""
    assert set(DOCUMENT["components"]["examples"]) == KINDS.keys()
    assert set(DOCUMENT["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == (
        KINDS.keys()
    )
    everywhere = set().union(*(codes_of(path) for path in ALL_PATHS))
    assert everywhere | set(UNROUTED) == KINDS.keys()


def test_document_says_what_becomes_of_paths_that_it_does_not_have() -> None:
    """They are tenants': there is no path for all of them, but words, and the codes."""
    text = DOCUMENT["info"]["description"]
    assert "X-API-Key" in text
    assert set(PROXIED) <= set(re.findall("`(.*?)`", text))
    assert set(UNROUTED) - set(PROXIED) == {"not_found", "method_not_allowed"}


@pytest.mark.parametrize("path", ALL_PATHS)
def test_document_puts_each_code_under_its_status(path: str) -> None:
    """A code is an example of the response whose status it has, with the headers of that status."""
    for status in operation(path)["responses"]:
        response = described(path, int(status))
        for code in response["content"].get(CONTENT_TYPE, {}).get("examples", ()):
            assert KINDS[code].status == int(status)
        if status in {"429", "503"}:
            assert "Retry-After" in response["headers"]
        if status == "401":
            assert "WWW-Authenticate" in response["headers"]


@pytest.mark.parametrize("code", sorted(KINDS))
def test_document_example_of_a_code_is_a_problem_of_that_code(code: str) -> None:
    """Examples are valid, and say what the table says."""
    value = DOCUMENT["components"]["examples"][code]["value"]
    check(DOCUMENT, {"$ref": "#/components/schemas/Problem"}, value)
    assert (value["code"], value["status"], value["title"]) == (
        code,
        KINDS[code].status,
        KINDS[code].title,
    )
    assert "{" not in value["detail"]


@pytest.mark.parametrize("path", ALL_PATHS)
def test_document_examples_fit_their_schemas(path: str) -> None:
    """The examples of answers, bodies and parameters are what the schemas say."""
    for content in operation(path).get("requestBody", {}).get("content", {}).values():
        check(DOCUMENT, content["schema"], content["example"])
    for status in operation(path)["responses"]:
        for content in described(path, int(status))["content"].values():
            if "example" in content:
                check(DOCUMENT, content["schema"], content["example"])
    for parameter in operation(path).get("parameters", ()):
        resolved = resolve(DOCUMENT, parameter)
        if "example" in resolved:
            check(DOCUMENT, resolved["schema"], resolved["example"])


@pytest.mark.parametrize("name", sorted(DOCUMENT["components"]["headers"]))
def test_document_header_example_fits_its_schema(name: str) -> None:
    """The examples of headers are what the schemas say."""
    header = DOCUMENT["components"]["headers"][name]
    if "example" in header:
        check(DOCUMENT, header["schema"], header["example"])


def test_document_names_the_tiers_that_it_is_given() -> None:
    """A server with other tiers describes those."""
    document = openapi_document(version="1", tiers=("gold", "lead"))
    text = msgspec.json.encode(document).decode()
    assert document["components"]["parameters"]["X-Tenant-Tier"]["schema"]["enum"] == [
        "gold",
        "lead",
    ]
    for tier in TIERS:
        assert f'"{tier}"' not in text
        assert f"X-Tenant-Tier: {tier}" not in text


def test_document_has_words_for_every_member_of_a_route() -> None:
    """None is without, and there are none for what is not there."""
    schemas = DOCUMENT["components"]["schemas"]
    parts = {"": "NewRoute", "upstream": "Upstream", "transform": "Transform",
             "resilience": "Resilience"}  # fmt: skip

    def members(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
        for name, member in schema["properties"].items():
            where = f"{path}.{name}" if path else name
            if "$ref" not in member:
                yield where, member["description"]
                if "properties" in member:
                    yield from members(member, where)

    found = dict(each for at, name in parts.items() for each in members(schemas[name], at))
    found |= {name: schemas[part]["description"] for name, part in parts.items() if name}
    assert found == dict(WORDS)
    assert all(found.values())
