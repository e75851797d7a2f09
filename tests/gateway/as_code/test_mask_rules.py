"""Secrets are masked on the way out, and put back on the way in."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.gateway.as_code._mask_rules import (
    all_unmasked,
    masked,
    still_masked,
    unmasked,
)

KEPT = {
    "upstreams": [{"url": "https://user:pw@a.example?token=t&x=1"}],
    "headers": {"set": {"Authorization": "Bearer s3cret", "X-Plain": "x"}},
}


def test_masked_document_that_nobody_touched_is_the_same_again() -> None:
    """Nothing secret is to be seen, and nothing is lost."""
    shown = masked(KEPT)
    assert "s3cret" not in str(shown)
    assert "pw" not in str(shown)
    assert len(still_masked(shown)) == 2
    assert unmasked(shown, KEPT) == KEPT


def test_secret_that_is_written_out_counts() -> None:
    """It takes the place of the one there is; its neighbours stay."""
    shown = masked(KEPT)
    shown["headers"]["set"]["Authorization"] = "Bearer other"
    shown["headers"]["set"]["X-Plain"] = "y"
    whole = unmasked(shown, KEPT)
    assert whole["headers"]["set"] == {"Authorization": "Bearer other", "X-Plain": "y"}
    assert whole["upstreams"] == KEPT["upstreams"]


def test_mask_without_a_secret_in_its_place_is_found() -> None:
    """In a new route, at another place of a list, in a URL that was altered."""
    assert still_masked(unmasked({"set": {"X-Token": "***"}}, {"set": {}})) == ["$.set.X-Token"]
    shown = masked(KEPT)
    shown["upstreams"].append({"url": "https://b.example"})
    assert still_masked(unmasked(shown, KEPT)) == ["$.upstreams[0].url"]
    shown = masked(KEPT)
    shown["upstreams"][0]["url"] = "https://***@b.example"
    assert still_masked(unmasked(shown, KEPT)) == ["$.upstreams[0].url"]


def route(secret: str, weight: int = 1) -> dict[str, Any]:
    return {"weight": weight, "headers": {"set": {"Authorization": secret}}}


def test_secrets_of_documents_that_look_the_same_are_not_mixed_up() -> None:
    """Each has its own again, untouched or altered, wherever it stands."""
    first, second = route("one"), route("two")
    look = masked(first)
    assert all_unmasked([look, look], [first, second]) == [first, second]
    assert all_unmasked([look, second], [first, second]) == [first, second]
    assert all_unmasked([second, look], [first, second]) == [second, first]
    heavy = {**look, "weight": 9}
    assert all_unmasked([heavy, look], [first, second]) == [route("one", 9), second]
    assert all_unmasked([look, heavy], [first, second]) == [first, route("two", 9)]
    assert all_unmasked([heavy, route("new")], [first, second]) == [route("one", 9), route("new")]
    assert all_unmasked([route("new"), heavy], [first, second]) == [route("new"), route("two", 9)]


def test_secret_is_put_back_once() -> None:
    """A document more than there is has none that could stay."""
    whole = all_unmasked([masked(KEPT), masked(KEPT)], [KEPT])
    assert (whole[0], len(still_masked(whole[1]))) == (KEPT, 2)
    assert all_unmasked([masked(KEPT)], []) == [masked(KEPT)]


def test_secret_is_put_back_where_there_is_one() -> None:
    """Not from a document in the same place that has none."""
    plain = {"weight": 1, "headers": {"set": {}}}
    assert all_unmasked([masked(route("one", 9))], [plain, route("one")]) == [route("one", 9)]


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["x", "https://u:p@h/?key=v"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "token", "password"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_masking_is_undone_for_every_document(value: Any) -> None:
    """Whatever it holds."""
    assert unmasked(masked(value), value) == value
