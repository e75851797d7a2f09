"""What is masked before it is written where people read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.database._audit_rules import MASK, masked

SECRET = "hush-hush"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    "name",
    ["Authorization", "x-api-key", "Cookie", "X-Auth-Token", "clientSecret", "password",
     "Set-Cookie", "X-Amz-Signature"],
)  # fmt: skip
def test_member_whose_name_speaks_of_a_secret_is_masked(name: str) -> None:
    """Wherever it is, one value or many."""
    document = {"headers": {"set": {name: SECRET}, "add": {name: [SECRET, SECRET]}}}
    assert masked(document) == {"headers": {"set": {name: MASK}, "add": {name: [MASK, MASK]}}}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://a.example/b?c=1", "http://a.example/b?c=1"),
        ("http://user:hush-hush@a.example:8080/b", "http://***@a.example:8080/b"),
        ("https://hush-hush@[::1]/", "https://***@[::1]/"),
        ("http://a/?api_key=hush-hush&x=1", "http://a/?api_key=***&x=1"),
        ("http://[hush-hush", "***"),
    ],
)
def test_url_is_shown_without_what_opens_it(url: str, shown: str) -> None:
    """Where to, but not with what."""
    assert masked({"upstreams": [{"url": url}]}) == {"upstreams": [{"url": shown}]}


def test_what_is_no_secret_is_shown() -> None:
    """An audit that hides everything is none."""
    document: dict[str, Any] = {
        "path": "/api/users",
        "headers": {"remove": ["Authorization"], "set": {"X-Kind": "seen"}},
        "resilience": {"timeout": {"default": 10000}},
        "weight": None,
    }
    assert masked(document) == document


@given(JSON)
def test_document_of_any_form_is_masked_without_a_word(document: Any) -> None:
    """Nothing that can be saved can stop the saving."""
    masked(document)
