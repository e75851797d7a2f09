"""Patterns are run in linear time, and bad ones are told apart without noise."""

from __future__ import annotations

import time

import pytest

from bulkhead_trio.gateway import _pattern_rules
from bulkhead_trio.gateway._pattern_rules import Pattern, PatternError, PatternSet, Replacement


def test_pattern_that_would_explode_elsewhere_is_quick() -> None:
    """A pattern that takes ages in an engine that backtracks is no weapon here."""
    pattern = Pattern("^/(a+)+$")
    began = time.perf_counter()
    assert pattern.end_of_match(b"/" + b"a" * 8000 + b"!") is None
    assert time.perf_counter() - began < 0.5


def test_pattern_matches_from_the_beginning() -> None:
    """Whether or not it says so; where it ends is for it to say."""
    assert Pattern("/a").end_of_match(b"/ab") == 2
    assert Pattern("/a").end_of_match(b"/x/a") is None
    assert Pattern("^/a$").end_of_match(b"/ab") is None
    assert Pattern("/[^b]*").end_of_match(b"/a\xffb") == 3


@pytest.mark.parametrize(
    ("text", "only"),
    [
        ("^/a$", b"/a"),
        ("/a$", b"/a"),
        ("/(a)\\z", b"/a"),
        ("^/a", None),
        ("/a\\b", None),
        ("/a\\B", None),
        ("/[ab]$", None),
        ("/a.*$", None),
        (".*", None),
        ("(?i)/a$", None),
    ],
)
def test_pattern_of_one_path(text: str, only: bytes | None) -> None:
    """Where it can match nothing else, it is known."""
    assert Pattern(text).only_match() == only


@pytest.mark.parametrize(
    ("text", "is_below"),
    [
        ("^/a/", True),
        ("/a/.*", True),
        ("/a/(b|c)$", True),
        ("(/a/b|/a/c)", True),
        ("/a[/0]", False),
        ("/a(/.*|0)", False),
        ("/a", False),
        ("/a(/.*)?", False),
        ("/ab/", False),
        ("/.*", False),
        (".*", False),
        ("(?i)/a/", False),
    ],
)
def test_pattern_of_paths_that_begin_alike(text: str, is_below: bool) -> None:
    """All that it matches is below ``/a/``, or it may be that something is not."""
    pattern = Pattern(text)
    assert pattern.matches_only_below(b"/a/") == is_below
    for path in (b"/a", b"/ab/", b"/a0", b"/b", b"/A/", b"/"):
        assert not (is_below and pattern.end_of_match(path) is not None)


def test_pattern_that_is_bad_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Not to the process's stderr either, where RE2 would say it."""
    with pytest.raises(PatternError):
        Pattern("(")
    with pytest.raises(PatternError):
        Pattern("a{1001}")
    assert capfd.readouterr() == ("", "")


def test_pattern_set_says_all_that_match() -> None:
    """From the beginning of the text, as single patterns do."""
    together = PatternSet([Pattern("/a"), Pattern("/[ab]"), Pattern("b"), Pattern("/a$")])
    assert sorted(together.matching(b"/ab")) == [0, 1]
    assert list(together.matching(b"x")) == []


def test_pattern_set_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than to find nothing later."""
    several = [Pattern(f"/[^x]{{100}}{number}") for number in range(100)]
    assert PatternSet(several).matching(b"/" + b"a" * 100 + b"7") == [7]
    monkeypatch.setattr(_pattern_rules, "_SET_MEMORY_BYTES", 10_000)
    with pytest.raises(PatternError):
        PatternSet(several)


def test_replacement_counts_groups_beyond_nine() -> None:
    """As many digits as there are belong to the number."""
    pattern = Pattern("/" + "(.)" * 11)
    assert pattern.replaced(b"/abcdefghijk", Replacement("$11-$1", pattern)) == b"k-a"
    with pytest.raises(PatternError, match=r"\$12"):
        Replacement("$12", pattern)
