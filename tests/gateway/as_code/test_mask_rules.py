"""Secrets are masked on the way out, and put back on the way in."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.gateway.as_code._mask_rules import masked, still_masked, unmasked

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
