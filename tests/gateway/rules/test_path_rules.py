"""Paths: what is the same, what is ambiguous, and what an upstream is asked for."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bulkhead_trio.errors import CallerError
from bulkhead_trio.gateway._path_rules import PathRules, base_path, normal_path, target
from bulkhead_trio.gateway._pattern_rules import Pattern, Replacement

PIECES = [
    b"/", b"//", b".", b"..", b"a", b"B", b"%", b"%2", b"%2f", b"%2F", b"%5c", b"%2e", b"%2E",
    b"%41", b"%25", b"%00", b"%c3%a4", b"%zz", b"\\", b";", b";x=1", b"?", b"#", b" ", b"\r\n",
    b"\x00", b"\xff", b"@", b":", b"http:", b"evil.example", b"~", b"-",
]  # fmt: skip
paths = st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join).map(lambda p: b"/" + p)


def rewriting(pattern: str, replacement: str, *, strips: bool = False) -> PathRules:
    compiled = Pattern(pattern)
    return PathRules(
        strips=strips, pattern=compiled, replacement=Replacement(replacement, compiled)
    )


def rewritten(rules: PathRules, raw: bytes, end: int = 0) -> bytes:
    normal = normal_path(raw)
    assert normal is not None
    return rules.path(raw, normal, end)


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        (b"/", b"/"),
        (b"/a/b", b"/a/b"),
        (b"/%61/%7Eb/%2d%2E%5f", b"/a/~b/-._"),
        (b"/%c3%a4", b"/%C3%A4"),
        (b"/a%2fb", b"/a%2Fb"),
        (b"/%252e%252e/", b"/%252e%252e/"),
        (b"//a//", b"//a//"),
        (b"/.a/..b/c./d../...", b"/.a/..b/c./d../..."),
        (b"/.well-known/x", b"/.well-known/x"),
        (b"/a;v=1/b", b"/a;v=1/b"),
        (b"/a\\b", b"/a\\b"),
        (b'/"<>[]^`{|}', b'/"<>[]^`{|}'),
    ],
)
def test_normal_path_of_what_is_plain(raw: bytes, normal: bytes) -> None:
    """Escapes that need not be are the same as without; all others stay, in upper case."""
    assert normal_path(raw) == normal


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"a", b"*", b"http://h/", b"/..", b"/.", b"/a/../b", b"/a/./b", b"/a/..", b"/../a",
        b"/%2e%2e/a", b"/.%2E/a", b"/a/%2e", b"/a%2f..%2fb", b"/a%2F..", b"/..%5ca", b"/a\\..\\b",
        b"/..;/a", b"/a/.;x=1", b"/%2e.;a=b/c", b"/a%00", b"/a\x00", b"/a b", b"/a\tb", b"/a\r\nb",
        b"/\xc3\xa4", b"/a\x7f", b"/%", b"/%a", b"/%zz", b"/a%2", b"/%%32%66", b"/a?b", b"/a#b",
    ],
)  # fmt: skip
def test_normal_path_of_what_is_ambiguous(raw: bytes) -> None:
    """Whatever some program might take for another path has no normal form."""
    assert normal_path(raw) is None


@given(paths)
def test_normal_path_means_the_same(raw: bytes) -> None:
    """It stays as it is, decodes to the same bytes, has as many slashes, and cannot climb."""
    normal = normal_path(raw)
    if normal is None:
        return
    assert normal_path(normal) == normal
    assert unquote_to_bytes(normal) == unquote_to_bytes(raw)
    assert normal.count(b"/") == raw.count(b"/")
    seen = unquote_to_bytes(normal).replace(b"\\", b"/")
    assert b"\x00" not in seen
    assert not {b".", b".."} & {part.partition(b";")[0] for part in seen.split(b"/")}


@given(paths, paths)
def test_normal_path_tells_apart_what_is_different(one: bytes, other: bytes) -> None:
    """Two paths have the same form only if they are equal once what may be unescaped is."""
    normal = normal_path(one)
    if normal is not None and normal == normal_path(other):
        assert unquote_to_bytes(one) == unquote_to_bytes(other)
        assert one.upper().count(b"%2F") == other.upper().count(b"%2F")


# --- what an upstream is asked for ---------------------------------------------------------------


def test_path_rules_without_any_leave_the_path_as_it_was_sent() -> None:
    """Byte for byte: also escapes that need not be."""
    assert rewritten(PathRules(), b"/%61/%c3%a4//x") == b"/%61/%c3%a4//x"


@pytest.mark.parametrize(
    ("raw", "end", "expected"),
    [
        (b"/api/users", 4, b"/users"),
        (b"/api", 4, b"/"),
        (b"/api/", 4, b"/"),
        (b"/a%70i/users", 4, b"/users"),
        (b"/api//evil.example/x", 4, b"/evil.example/x"),
        (b"/api/users", 0, b"/api/users"),
        (b"/api/v12/x", 7, b"/2/x"),
        (b"/api/%2fx", 4, b"/%2Fx"),
    ],
)
def test_path_rules_strip_what_was_matched(raw: bytes, end: int, expected: bytes) -> None:
    """What is left is a path, beginning with one slash."""
    assert rewritten(PathRules(strips=True), raw, end) == expected


@pytest.mark.parametrize(
    ("pattern", "replacement", "raw", "expected"),
    [
        ("^/api/(.*)$", "/v1/$1", b"/api/users/5", b"/v1/users/5"),
        ("^/api/(.*)$", "/v1/$1", b"/other", b"/other"),
        ("/x", "/y", b"/x/x", b"/y/x"),
        ("^/(?P<a>[^/]+)/(?P<b>[^/]+)", "/${b}/${a}", b"/1/2/3", b"/2/1/3"),
        ("^/(a)?(b)?", "/$1-$2", b"/b", b"/-b"),
        ("^/(.)(.*)", "/${1}0$2", b"/ab", b"/a0b"),
        ("^/", "/$$0/", b"/a", b"/$0/a"),
        ("b", "[$0]", b"/abc", b"/a[b]c"),
        ("^/api", "", b"/api/x", b"/x"),
        ("^/api/", "", b"/api/x", b"/x"),
        ("^/api", "", b"/api", b"/"),
        ("^/", "//evil.example/", b"/x", b"/evil.example/x"),
        ("^/go/(.*)", "/$1", b"/go//evil.example", b"/evil.example"),
        ("é?$", "/ok", b"/x", b"/x/ok"),
    ],
)
def test_path_rules_rewrite(pattern: str, replacement: str, raw: bytes, expected: bytes) -> None:
    """The first match is replaced, or nothing is; what comes of it begins with one slash."""
    pattern = pattern.replace("é", "e")
    assert rewritten(rewriting(pattern, replacement), raw) == expected


@pytest.mark.parametrize(
    ("normal", "end", "expected"),
    [
        (b"/api/users/7", 10, b"/api/users"),
        (b"/api/users/7", 11, b"/api/users"),
        (b"/api/users", 10, b"/api/users"),
        (b"/x", 1, b""),
        (b"/x", 0, b""),
    ],
)
def test_path_rules_know_what_they_have_taken_off(normal: bytes, end: int, expected: bytes) -> None:
    """What can be put before a path again; nothing where nothing is stripped."""
    assert PathRules(strips=True).taken_off(normal, end) == expected
    assert PathRules().taken_off(normal, end) == b""


def test_path_rules_strip_before_they_rewrite() -> None:
    """The pattern sees what is left."""
    rules = rewriting("^/v1/(.*)$", "/$1", strips=True)
    assert rewritten(rules, b"/api/v1/users", end=4) == b"/users"


def test_path_rules_rewrite_the_normal_form() -> None:
    """A path is not spared by being spelt in another way."""
    assert rewritten(rewriting("^/secret", "/public"), b"/%73ecret") == b"/public"


@pytest.mark.parametrize(
    ("pattern", "replacement", "raw"),
    [
        ("^/(.*)-(.*)$", "/$1/$2", b"/..-x"),
        ("x", "", b"/.x./a"),
        ("25", "", b"/a/%252e./b"),
        ("^/(.*)$", "/$1", b"/%2e%2"),
        ("00", "", b"/%0000"),
    ],
)
def test_path_rules_refuse_what_becomes_ambiguous(
    pattern: str, replacement: str, raw: bytes
) -> None:
    """Nobody can write a path that turns into another one by being rewritten."""
    with pytest.raises(CallerError):
        rewriting(pattern, replacement).path(raw, raw, 0)


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://h", b""),
        ("http://h/", b""),
        ("http://h/a", b"/a"),
        ("https://h:8080/a/b/", b"/a/b"),
        ("http://[::1]:80/a", b"/a"),
    ],
)
def test_base_path_has_no_last_slash(url: str, base: bytes) -> None:
    """It is put before a path, which begins with one."""
    assert base_path(url) == base


@pytest.mark.parametrize(
    ("base", "path", "query", "expected"),
    [
        (b"", b"/", b"", b"/"),
        (b"/v1", b"/", b"", b"/v1/"),
        (b"/v1", b"/users", b"a=%2f&b=c+d&&?x=/..;%zz", b"/v1/users?a=%2f&b=c+d&&?x=/..;%zz"),
    ],
)
def test_target_keeps_the_query(base: bytes, path: bytes, query: bytes, expected: bytes) -> None:
    """Byte for byte, whatever it is."""
    assert target(base, path, query) == expected


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (b"//evil.example/x", b""),
        (b"", b""),
        (b"x", b""),
        (b"/a", b"b c"),
        (b"/a", b"b\r\nX: y"),
        (b"/a", b"b\x00"),
        (b"/a", b"\xc3\xa4"),
        (b"/a", b"b#c"),
        (b"/a b", b""),
        (b"/a HTTP/1.1\r\nHost: evil.example\r\n", b""),
    ],
)
def test_target_refuses_what_no_first_line_can_have(path: bytes, query: bytes) -> None:
    """No request becomes two, or one to somebody else."""
    with pytest.raises(CallerError):
        target(b"", path, query)


@given(
    raw=paths,
    query=st.lists(st.sampled_from(PIECES), max_size=4).map(b"".join),
    base=st.sampled_from([b"", b"/base", b"/a/b"]),
    end=st.integers(0, 12),
    rules=st.sampled_from(
        [
            PathRules(),
            PathRules(strips=True),
            rewriting("^/(.*)a(.*)$", "/$2/$1"),
            rewriting("/", ""),
            rewriting("%", ".", strips=True),
            rewriting("^(.*)$", "$1$1"),
        ]
    ),
)
@example(raw=b"/a//evil.example", query=b"", base=b"", end=2, rules=PathRules(strips=True))
def test_target_stays_with_its_upstream(
    raw: bytes, query: bytes, base: bytes, end: int, rules: PathRules
) -> None:
    """Whatever is sent and however it is changed: one line, below the base, and no other host."""
    normal = normal_path(raw)
    if normal is None:
        return
    try:
        asked = target(base, rules.path(raw, normal, min(end, len(normal))), query)
    except CallerError:
        return
    assert asked.startswith(base + b"/")
    assert not asked.startswith(b"//")
    assert all(0x21 <= byte <= 0x7E for byte in asked)
    path, mark, rest = asked.partition(b"?")
    assert (mark, rest) == ((b"?", query) if query else (b"", b""))
    depth = 0
    for segment in unquote_to_bytes(path).replace(b"\\", b"/").split(b"/"):
        depth += -1 if segment.partition(b";")[0] == b".." else 1
        assert depth > 0
