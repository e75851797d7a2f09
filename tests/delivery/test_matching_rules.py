"""Event types, and which endpoint takes which."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.delivery._matching_rules import (
    MOST_CHARACTERS,
    MOST_PATTERNS,
    check_event_type,
    check_pattern,
    check_patterns,
)

from ._patterns import patterns_for

names = st.text("abyz09_", min_size=1, max_size=3)
types = st.lists(names, min_size=1, max_size=4).map(".".join)
patterns = st.one_of(st.just("*"), types, types.map("{}.*".format))


def plainly_matches(pattern: str, event_type: str) -> bool:
    """What a pattern means, said without any set."""
    if pattern.endswith("*"):
        return event_type.startswith(pattern[:-1])
    return pattern == event_type


@given(patterns, types)
def test_pattern_takes_what_it_says(pattern: str, event_type: str) -> None:
    """Everything, what begins like it, or itself; ``order.*`` is of whole names."""
    assert (pattern in patterns_for(event_type)) == plainly_matches(pattern, event_type)


@given(types)
def test_good_types_are_taken_as_types_and_as_patterns(event_type: str) -> None:
    """A type is the narrowest pattern."""
    assert check_event_type(event_type) == event_type
    assert check_pattern(event_type) == event_type
    assert all(check_pattern(each) == each for each in patterns_for(event_type))


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "a.", ".a", "a..b", "a b", "a-b", "a/b", "é", "a\n", "\na", "a.b\n", "٣"),
        *("a,b", "a;b", "a\x00", "*", "a.*", "a" * (MOST_CHARACTERS + 1)),
    ],
)
def test_malformed_type_is_refused(text: str) -> None:
    """Names of letters, digits and _, joined by full stops, and not too long."""
    with pytest.raises(ValueError, match="must"):
        check_event_type(text)


@pytest.mark.parametrize(
    "text", ["", "**", "*.a", "a*", "a.*.b", "a.*.*", ".*", "a.", "a b", "*\n"]
)
def test_malformed_pattern_is_refused(text: str) -> None:
    """A star stands at the end, for whole names."""
    with pytest.raises(ValueError, match="must"):
        check_pattern(text)


def test_longest_type_is_taken() -> None:
    """128 characters are within bounds."""
    assert check_event_type("a" * MOST_CHARACTERS)
    with pytest.raises(ValueError, match="128"):
        check_pattern("a" * (MOST_CHARACTERS + 1))


def test_patterns_of_an_endpoint_are_kept_once_each() -> None:
    """In the order in which they were given."""
    assert check_patterns(["b.*", "a", "b.*"]) == ("b.*", "a")


@pytest.mark.parametrize("texts", [[], ["a"] * (MOST_PATTERNS + 1), ["a", "?"]])
def test_patterns_that_are_none_or_too_many_are_refused(texts: list[str]) -> None:
    """An endpoint asks for something, and not for thousands of things."""
    with pytest.raises(ValueError, match="must"):
        check_patterns(texts)
