"""Many regular expressions at once, against trying one after the other."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkhead_trio.gateway import _regex_rules
from bulkhead_trio.gateway._pattern_rules import Pattern, PatternError, PatternSet
from bulkhead_trio.gateway._regex_rules import FirstMatch, required_segments

GET = frozenset(["GET"])


@pytest.mark.parametrize(
    ("pattern", "segments"),
    [
        ("^/a/b/c$", {b"a", b"b", b"c"}),
        ("/a/b/c", {b"a", b"b"}),
        (r"/a/b/c\z", {b"a", b"b", b"c"}),
        ("/v[0-9]+/orders/(.*)$", {b"orders"}),
        ("/(x|y)/a/(?:p|q)/b/", {b"a", b"b"}),
        ("/(?P<id>[^/]+)/a/", {b"a"}),
        (r"/a\.b/c-d/e_f/", {b"a.b", b"c-d", b"e_f"}),
        ("/%C3%A4/", {b"%C3%A4"}),
        ("x/a/", {b"a"}),
        # nothing certain: optional, repeated, alternative, or not understood
        ("/a", set()),
        ("/a?/b+/c*/", set()),
        ("/a/?b/", set()),
        ("/a/*b/c/", {b"c"}),
        ("/a/{0,1}b/c/", {b"c"}),
        ("/ab{2}/", set()),
        ("/a{,2}/b/", set()),
        ("/a/|/b/", set()),
        ("(?i)/a/", set()),
        ("/(a)/", set()),
        ("/a(b)/c/", {b"c"}),
        ("/(a/b/c)?/d/", {b"d"}),
        ("/[/]a/b/", {b"b"}),
        ("/[]/]/a/", {b"a"}),
        ("/[^]/x]/a/", {b"a"}),
        (r"/[\]/]/a/", {b"a"}),
        ("/[[:alpha:]/]/a/", {b"a"}),
        (r"/\Qa/b\E/", set()),
        (r"/\x41/", set()),
        (r"/a/\d/b/", {b"a", b"b"}),
        (r"/a\b/", set()),
        ("/a$/b/", set()),
        ("/(a[)]b)/c/", {b"c"}),
        (r"/(a\)/b/)?/c/", {b"c"}),
        ("//", set()),
        ("", set()),
    ],
)
def test_required_segments_are_certain(pattern: str, segments: set[bytes]) -> None:
    """Only what must stand between two slashes, or before the end, in every path that matches."""
    assert required_segments(pattern) == segments


PARTS = [
    "/", "/", "/", "a", "b", "ab", "^", "$", ".", "*", "?", "+", "{0,1}", "{2}", "{", "(", ")",
    "(?:", "(?i)", "(?P<n>", "|", "[ab]", "[^/]", "[/a]", "[^]a]", r"\.", r"\d", r"\/", r"\Q",
    r"\E", r"\z", r"\A", r"\b", "-", "%41", "[[:alpha:]]",
]  # fmt: skip


def compiled(text: str) -> Pattern | None:
    try:
        return Pattern(text)
    except PatternError:
        return None


patterns = (
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=10)
    .map("".join)
    .map(compiled)
    .filter(lambda pattern: pattern is not None)
)
paths = st.text(alphabet="/ab.", max_size=8).map(lambda text: b"/" + text.encode())


@given(pattern=patterns, path=paths)
@settings(max_examples=1500, deadline=None)
def test_required_segments_are_in_every_path_that_matches(pattern: Pattern, path: bytes) -> None:
    """Otherwise a route would not be found."""
    if pattern.end_of_match(path) is not None:
        assert required_segments(pattern.text) <= set(path.split(b"/"))


@given(
    several=st.lists(st.tuples(patterns, st.sampled_from([None, GET])), max_size=12),
    path=paths,
    method=st.sampled_from(["GET", "PUT"]),
)
@settings(max_examples=500, deadline=None)
def test_first_match_is_the_first(
    several: list[tuple[Pattern, frozenset[str] | None]], path: bytes, method: str
) -> None:
    """As if each had been tried in turn."""
    expected = None
    for number, (pattern, methods) in enumerate(several):
        if (methods is None or method in methods) and pattern.end_of_match(path) is not None:
            expected = number
            break
    found = FirstMatch([each for each, _ in several], [methods for _, methods in several])
    assert found.find(path, method) == expected


def test_first_match_among_many_of_one_kind() -> None:
    """Patterns that have nothing certain, or the same, are tried together, in their order."""
    texts = [f"/a/x[0-9]*{number}$" for number in range(50)] + ["/a/.*", "/[a-z]/x7"]
    found = FirstMatch([Pattern(text) for text in texts], [None] * len(texts))
    assert found.find(b"/a/x123", "GET") == 3
    assert found.find(b"/a/x23", "GET") == 3
    assert found.find(b"/a/x149", "GET") == 9
    assert found.find(b"/a/other", "GET") == 50
    assert found.find(b"/b/x7", "GET") == 51
    assert found.find(b"/b/x8", "GET") is None


def test_first_match_when_a_set_would_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets that may not use so much memory are split, and find the same."""
    made: list[int] = []

    class SmallSet(PatternSet):
        def __init__(self, patterns: object) -> None:
            several = list(patterns)  # type: ignore[call-overload]
            if len(several) > 8:
                raise PatternError("needs too much memory")
            made.append(len(several))
            super().__init__(several)

    monkeypatch.setattr(_regex_rules, "PatternSet", SmallSet)
    found = FirstMatch([Pattern(f"/[a-z]*{number:02}$") for number in range(40)], [None] * 40)
    assert [found.find(b"/x%02d" % number, "GET") for number in range(41)] == [*range(40), None]
    assert len(made) > 1
