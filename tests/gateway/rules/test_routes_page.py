"""The page on routes says what is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args, get_type_hints

import msgspec
import pytest

from bulkhead_trio.gateway.spec import ResilienceSpec, RouteSpec, read_spec

PAGE = (Path(__file__).parents[3] / "docs" / "gateway" / "routes.md").read_text(encoding="utf-8")
PARTS = {
    field.encode_name: get_args(get_type_hints(ResilienceSpec)[field.name])[0]
    for field in msgspec.structs.fields(ResilienceSpec)
}


def test_routes_page_has_an_example_that_can_be_saved() -> None:
    """Whoever copies it has a route."""
    (example,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert read_spec(example.encode()).path == "/api/users"


def test_routes_page_tells_every_member() -> None:
    """Of the route, and of what protects it."""
    for field in msgspec.structs.fields(RouteSpec):
        assert re.search(rf"[`\".]{field.encode_name}[`\"]", PAGE), field.encode_name


@pytest.mark.parametrize("part", sorted(PARTS))
def test_routes_page_tells_every_member_of_a_part(part: str) -> None:
    """With its default, unless it has none to speak of."""
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{part}` |")]
    for field in msgspec.structs.fields(PARTS[part]):
        if field.encode_name == "enabled":
            continue
        assert f"`{field.encode_name}`" in row
        default = field.default
        if isinstance(default, int) and not isinstance(default, bool):
            assert re.search(rf"\b{default}\b", row.split("|")[3]), field.encode_name
