"""The route document: what is right, what is wrong and how it is told, and how it is written."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkhead_trio.errors import InvalidBody
from bulkhead_trio.gateway.spec import merge_patch, read_spec, spec_json, switched_on, urls_of

from .documents import FULL, SMALL, TENANT, changed, mistakes, read


def includes(whole: Any, part: Any) -> bool:
    """Whether everything that ``part`` says is in ``whole`` as well."""
    if isinstance(part, dict):
        return all(name in whole and includes(whole[name], part[name]) for name in part)
    return bool(whole == part)


def test_spec_reads_the_contracts_example() -> None:
    """Every member of it is there afterwards, by its name and with its value."""
    assert includes(msgspec.json.decode(spec_json(read(FULL))), FULL)


def test_spec_has_all_resilience_off_when_absent() -> None:
    """A route without a word on it is a plain route, for all methods, by prefix."""
    spec = read(SMALL)
    assert all(part is None for part in msgspec.structs.astuple(spec.resilience))
    assert (spec.methods, spec.path_type, spec.load_balancing) == (None, "prefix", "round-robin")
    assert (spec.strip_path, spec.slow_start_ms, spec.priority) == (False, 0, 0)


@pytest.mark.parametrize("name", list(FULL["resilience"]))
def test_spec_takes_each_part_of_resilience_alone(name: str) -> None:
    """Each member is optional, has defaults for all in it, and null is the same as absent."""
    spec = read(changed(("resilience", {name: {}})))
    assert sum(part is not None for part in msgspec.structs.astuple(spec.resilience)) == 1
    assert read(changed(("resilience", {name: None}))) == read(SMALL)


def test_spec_part_that_is_not_enabled_is_off() -> None:
    """``enabled: false`` and absence come to the same."""
    spec = read(changed(("resilience.retry.enabled", False)))
    assert switched_on(spec.resilience.retry) is None
    assert switched_on(spec.resilience.bulkhead) is None
    assert switched_on(read(FULL).resilience.retry) is not None


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("*", None),
        ("GET", ("GET",)),
        (["GET"], ("GET",)),
        (["POST", "GET"], ("GET", "POST")),
        ("PURGE", ("PURGE",)),
    ],
)
def test_spec_reads_methods(method: Any, expected: tuple[str, ...] | None) -> None:
    """One, several in any order, or all; a list of one is one."""
    assert read(changed(("method", method))).methods == expected


RIGHT = [
    ("path", "/"),
    ("path", "/a%20b/%C3%A4"),
    ("path", "/a/"),
    ("path", "/.well-known/x..y/..."),
    ("upstreams", [{"url": "https://example.com/base/path"}]),
    ("upstreams", [{"url": "http://[::1]:8080"}]),
    ("upstreams", [{"url": "HTTP://Example.com:81/"}]),
    ("upstreams", [{"url": "http://my_service.internal"}]),
    ("upstreams", [{"url": "http://_a._b_.example."}]),
    ("upstreams", [{"url": f"http://{'b' * 63}.example"}]),
    ("upstreams", [{"url": f"http://{'a.' * 126}b"}]),
    ("upstreams", [{"url": f"http://{'a.' * 126}b./"}]),
    ("upstreams", [{"url": f"http://h{number}/"} for number in range(64)]),
    ("resilience.retry.baseDelayMs", 0),
    ("resilience.healthCheck.endpoint", "/health?deep=1"),
    ("resilience.fallback", {"upstream": "https://other.example.com/x"}),
    ("resilience.fallback", {"statusCode": 204, "body": ""}),
    ("resilience.fallback", {"contentType": "text/html; charset=utf-8", "body": "<p>ä</p>"}),
    ("resilience.circuitBreaker", {"failureRateThreshold": 50}),
    ("resilience.circuitBreaker", {"failureRateThreshold": 0.5, "slidingWindowSize": 5}),
    ("transform.request.headers.set", {"Authorization": "Bearer x y", "X-Empty": ""}),
    ("transform.request.headers", {"set": {"X-A": "1"}, "add": {"x-a": "2"}}),
    ("transform.response.headers.set", {"X-Forwarded-Fun": "1", "Host": "x"}),
    ("transform.request.path", {"pattern": "^/(?P<all>.*)", "replacement": "/${all}-$0-$$"}),
    ("transform.request.path", {"pattern": "x", "replacement": ""}),
]


@pytest.mark.parametrize(("path", "value"), RIGHT)
def test_spec_takes_what_is_right(path: str, value: Any) -> None:
    """None of these is a mistake."""
    assert mistakes(changed((path, value))) == {}


WRONG: list[tuple[str, Any, str, str]] = [
    # path, value, where the mistake is, a part of what is said of it
    ("tenantId", "acme", "$.tenantId", "UUID"),
    ("tenantId", None, "$.tenantId", "text"),
    ("tenantId", TENANT.replace("-", ""), "$.tenantId", "UUID"),
    ("pathtype", "exact", "$.pathtype", "is pathType meant?"),
    ("resilience.retries", {}, "$.resilience.retries", "is retry meant?"),
    ("resilience.retry.maxretries", 1, "$.resilience.retry.maxretries", "maxRetries"),
    ("resilience", [], "$.resilience", "an object"),
    # methods
    ("method", "get", "$.method", "GET"),
    ("method", "", "$.method", "such as GET"),
    ("method", "GET POST", "$.method", "such as GET"),
    ("method", "CONNECT", "$.method", "cannot be passed on"),
    ("method", [], "$.method", "a method at least"),
    ("method", ["GET", "*"], "$.method[1]", "alone"),
    ("method", ["GET", "PUT", "GET"], "$.method[2]", "already"),
    ("method", 1, "$.method", "a list of methods"),
    # paths
    ("path", "", "$.path", "slash"),
    ("path", "api", "$.path", "slash"),
    ("path", "/a/../b", "$.path", "segment"),
    ("path", "/a/.", "$.path", "segment"),
    ("path", "/a/%2e%2E/b", "$.path", "segment"),
    ("path", "/a/..;x/b", "$.path", "segment"),
    ("path", "/a%2fb", "$.path", "slash"),
    ("path", "/a%5Cb", "$.path", "slash"),
    ("path", "/a\\b", "$.path", "slash"),
    ("path", "/a%00b", "$.path", "%00"),
    ("path", "/a\0b", "$.path", "ASCII"),
    ("path", "/a//b", "$.path", "//"),
    ("path", "//a", "$.path", "//"),
    ("path", "/ä", "$.path", "ASCII"),
    ("path", "/a b", "$.path", "ASCII"),
    ("path", "/a\r\nb", "$.path", "ASCII"),
    ("path", "/a%2", "$.path", "hexadecimal"),
    ("path", "/a?b", "$.path", "query"),
    ("path", "/a#b", "$.path", "fragment"),
    ("path", "/" + "a" * 1024, "$.path", "1024"),
    ("priority", 1, "$.priority", "no effect"),
    # upstreams
    ("upstreams", [], "$.upstreams", "1 to 64"),
    ("upstreams", [{"url": "http://h"}] * 65, "$.upstreams", "65"),
    ("upstreams", [{}], "$.upstreams[0].url", "missing"),
    ("upstreams", {"url": "http://h"}, "$.upstreams", "a list"),
    ("upstreams", [{"url": "http://h", "weight": 0}], "$.upstreams[0].weight", "1 to 1000"),
    ("upstreams", [{"url": "http://h", "weight": 1.5}], "$.upstreams[0].weight", "whole"),
    ("upstreams", [{"url": "http://h", "weight": True}], "$.upstreams[0].weight", "whole"),
    (
        "upstreams",
        [{"url": "http://H:80/a/"}, {"url": "http://h/a"}],
        "$.upstreams[1].url",
        "already, as upstreams[0]",
    ),
    # the rest
    ("loadBalancing", "best", "$.loadBalancing", "least-connections"),
    ("slowStartMs", -1, "$.slowStartMs", "0 to"),
    ("resilience.circuitBreaker.timeout", 0, "$.resilience.circuitBreaker.timeout", "1 to"),
    (
        "resilience.circuitBreaker.minimumCalls",
        5,
        "$.resilience.circuitBreaker.minimumCalls",
        "no effect",
    ),
    (
        "resilience.circuitBreaker",
        {"failureRateThreshold": 50, "slidingWindowSize": 5, "minimumCalls": 6},
        "$.resilience.circuitBreaker.minimumCalls",
        "slidingWindowSize",
    ),
    (
        "resilience.circuitBreaker.failureRateThreshold",
        0,
        "$.resilience.circuitBreaker.failureRateThreshold",
        "above 0",
    ),
    ("resilience.retry.maxRetries", 11, "$.resilience.retry.maxRetries", "0 to 10"),
    ("resilience.retry.maxRetries", "3", "$.resilience.retry.maxRetries", "whole number"),
    (
        "resilience.retry",
        {"baseDelayMs": 10, "maxDelayMs": 9},
        "$.resilience.retry.maxDelayMs",
        "10",
    ),
    (
        "resilience.retry.retryableStatusCodes",
        [500, 200],
        "$.resilience.retry.retryableStatusCodes[1]",
        "400 to 599",
    ),
    (
        "resilience.retry.retryableStatusCodes",
        [500, 500],
        "$.resilience.retry.retryableStatusCodes",
        "once",
    ),
    ("resilience.retry.budget.ratio", 0, "$.resilience.retry.budget.ratio", "above 0"),
    ("resilience.timeout.byMethod", {"get": 1}, "$.resilience.timeout.byMethod.get", "GET"),
    ("resilience.timeout.byMethod", {"GET": 0}, "$.resilience.timeout.byMethod.GET", "1 to"),
    ("resilience.timeout.default", 1.5, "$.resilience.timeout.default", "whole"),
    ("resilience.healthCheck.endpoint", "health", "$.resilience.healthCheck.endpoint", "slash"),
    ("resilience.healthCheck.endpoint", "/a#b", "$.resilience.healthCheck.endpoint", "fragment"),
    ("resilience.healthCheck.endpoint", "/../x", "$.resilience.healthCheck.endpoint", "segment"),
    ("resilience.ejection", {"baseMs": 2, "maxMs": 1}, "$.resilience.ejection.maxMs", "baseMs"),
    ("resilience.fallback.statusCode", 199, "$.resilience.fallback.statusCode", "200 to 599"),
    ("resilience.fallback.contentType", "json", "$.resilience.fallback.contentType", "media type"),
    (
        "resilience.fallback.contentType",
        "a/b\r\nX: y",
        "$.resilience.fallback.contentType",
        "media type",
    ),
    ("resilience.fallback.body", {"a": 1}, "$.resilience.fallback.body", "text"),
    ("resilience.fallback.body", "ä" * 32769, "$.resilience.fallback.body", "65536"),
    ("resilience.fallback", {"statusCode": 204}, "$.resilience.fallback.body", "204"),
    ("resilience.fallback.upstream", "ftp://x", "$.resilience.fallback.upstream", "http"),
    ("resilience.bulkhead.maxConcurrent", 0, "$.resilience.bulkhead.maxConcurrent", "1 to"),
]


@pytest.mark.parametrize(("path", "value", "where", "what"), WRONG)
def test_spec_refuses_what_is_wrong(path: str, value: Any, where: str, what: str) -> None:
    """One mistake is told once, where it is, and in words that help."""
    found = mistakes(changed((path, value)))
    assert list(found) == [where]
    assert what in found[where]


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("example.com", "such as"),
        ("", "such as"),
        ("http:/example.com", "such as"),
        ("//example.com", "such as"),
        ("ftp://example.com", "http://"),
        ("file:///etc/passwd", "http://"),
        ("unix://x", "http://"),
        ("http://user@example.com", "password"),
        ("http://a:b@example.com", "password"),
        ("http://good.example@evil.example/", "password"),
        ("http://", "name a host"),
        ("http://:80", "name a host"),
        ("http:///x", "name a host"),
        ("http://example.com:0", "port"),
        ("http://example.com:65536", "port"),
        ("http://example.com:99999999", "no host"),
        ("http://example.com:80a", "no host"),
        ("http://exa mple.com", "unescaped"),
        ("http://example.com\r\nX: y", "unescaped"),
        ("http://example.com\\@evil.example", "such as"),
        ("http://exämple.com", "unescaped"),
        ("http://example.com/a b", "unescaped"),
        ("http://example.com?x=1", "query"),
        ("http://example.com/?", "query"),
        ("http://example.com/#f", "fragment"),
        ("http://example.com/a/../b", "segment"),
        ("http://example.com//x", "//"),
        ("http://example.com/a%2fb", "slash"),
        ("http://127.1", "spelling"),
        ("http://0177.0.0.1", "spelling"),
        ("http://2130706433", "spelling"),
        ("http://0x7f000001/", "spelling"),
        ("http://[::1", "no host"),
        ("http://[zz]", "no host"),
        ("http://a..b/", "empty part"),
        ("http://example.com..", "empty part"),
        ("http://.", "no host"),
        ("http://.example.com", "no host"),
        (f"http://a.{'b' * 64}.example", "63"),
        (f"http://{'a.' * 126}bc", "253"),
    ],
)
def test_spec_refuses_urls(url: str, what: str) -> None:
    """A URL that two programs might read differently is nobody's upstream."""
    found = mistakes(changed(("upstreams", [{"url": url}])))
    assert list(found) == ["$.upstreams[0].url"]
    assert what in found["$.upstreams[0].url"]


@pytest.mark.parametrize(
    "name",
    [
        "Connection", "keep-alive", "Proxy-Authorization", "TE", "Trailer", "Transfer-Encoding",
        "Upgrade", "Host", "Content-Length", "Expect", "Via", "Forwarded", "X-Forwarded-For",
        "x-forwarded-anything", "X-API-Key", "X-Admin-Key", "X-Request-Id", "X-Request-Timeout",
        "traceparent", "tracestate", "", "a b", "a:b", "ä", "a\r\nb", "x" * 129,
    ],
)  # fmt: skip
@pytest.mark.parametrize("member", ["set", "add", "remove"])
def test_spec_refuses_headers_of_requests(name: str, member: str) -> None:
    """What belongs to the connection, to us, or to no header at all is refused in every member."""
    value: Any = [name] if member == "remove" else {name: "x"}
    found = mistakes(changed((f"transform.request.headers.{member}", value)))
    where = f"$.transform.request.headers.{member}"
    assert list(found) == [f"{where}[0]" if member == "remove" else f"{where}.{name}"]


@pytest.mark.parametrize("name", ["Connection", "Transfer-Encoding", "Content-Length", "Via"])
def test_spec_refuses_headers_of_answers(name: str) -> None:
    """How an answer is framed is no route's affair."""
    found = mistakes(changed(("transform.response.headers.set", {name: "x"})))
    assert list(found) == [f"$.transform.response.headers.set.{name}"]


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\n", "\0", " a", "a ", "\ta", "ä", "x" * 4097])
def test_spec_refuses_header_values(value: str) -> None:
    """A value is one line, and what is sent is what was written."""
    found = mistakes(changed(("transform.response.headers.add", {"X-A": value})))
    assert list(found) == ["$.transform.response.headers.add.X-A"]


@pytest.mark.parametrize(
    ("headers", "where"),
    [
        ({"set": {"X-A": "1", "x-a": "2"}}, "set.x-a"),
        ({"set": {"x-a": "1", "X-A": "2"}}, "set.X-A"),
        ({"add": {"X-A": "1", "x-a": "2"}}, "add.x-a"),
        ({"remove": ["X-A", "x-a"]}, "remove[1]"),
        ({"set": {"X-A": "1"}, "remove": ["x-a"]}, "remove[0]"),
        ({"add": {"X-A": "1"}, "remove": ["x-a"]}, "remove[0]"),
    ],
)
def test_spec_refuses_headers_that_are_there_twice(headers: Any, where: str) -> None:
    """A header cannot be set twice, nor both be set and removed; letters do not matter."""
    found = mistakes(changed(("transform.request.headers", headers)))
    assert list(found) == [f"$.transform.request.headers.{where}"]
    assert "already" in found[f"$.transform.request.headers.{where}"]


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        ("/a(", "missing"),
        ("/(?=a)", "look-ahead"),
        ("/(?<!a)b", "look-ahead"),
        (r"/(a)\1", "back-references"),
        ("/a++", "possessive"),
        ("/[z-a]", "does not compile"),
        ("/ä", "ASCII"),
        ("/" + "a" * 1024, "1024"),
        ("/" + "[a-z]{900}" * 8, "too large"),
        ("(((a{100}){100}){100})", "does not compile"),
        ("api/.*", "begin with a slash"),
        ("^api$", "begin with a slash"),
    ],
)
def test_spec_refuses_patterns_of_paths(pattern: str, what: str) -> None:
    """What cannot be compiled, cannot be run in linear time, or can never match is refused."""
    document = changed(("pathType", "regex"), ("path", pattern))
    found = mistakes(document)
    assert list(found) == ["$.path"]
    assert what in found["$.path"]


@pytest.mark.parametrize(
    "pattern", ["/.*", "^/v[0-9]+", "(?i)/x", ".*[.]php$", "(/a|/b)", "[a-z]*"]
)
def test_spec_takes_patterns_of_paths(pattern: str) -> None:
    """Whatever may match the beginning of a path is a pattern for one."""
    assert mistakes(changed(("pathType", "regex"), ("path", pattern), ("priority", 5))) == {}


@pytest.mark.parametrize(
    ("pattern", "replacement", "where", "what"),
    [
        ("(", "/", "pattern", "does not compile"),
        ("/(.*)", "/$2", "replacement", "$2"),
        ("/(.*)", "/${name}", "replacement", "${name}"),
        ("/(.*)", "/$x", "replacement", "$$"),
        ("/(.*)", "/$", "replacement", "$$"),
        ("/(.*)", "/$10", "replacement", "$10"),
        ("/(.*)", "/\\1", "replacement", "$1"),
        ("/(.*)", "/?a=$1", "replacement", "query"),
        ("/(.*)", "/#$1", "replacement", "fragment"),
        ("/(.*)", "/ $1", "replacement", "ASCII"),
        ("/(.*)", "/ä", "replacement", "ASCII"),
        ("/(.*)", "/\r\n", "replacement", "ASCII"),
    ],
)
def test_spec_refuses_rewriting(pattern: str, replacement: str, where: str, what: str) -> None:
    """A pattern that does not compile, or a replacement that cannot be filled, is refused."""
    rewriting = {"pattern": pattern, "replacement": replacement}
    found = mistakes(changed(("transform.request.path", rewriting)))
    assert list(found) == [f"$.transform.request.path.{where}"]
    assert what in found[f"$.transform.request.path.{where}"]


def test_spec_tells_every_mistake_at_once() -> None:
    """Mistakes in one part do not hide those in another."""
    document = {
        "method": ["get", "*"],
        "pathType": "regexp",
        "upstreams": [{"url": "x"}, {"url": "http://h/", "weight": 0}, 5],
        "transform": {"request": {"path": {"pattern": "("}, "headers": {"set": {"Host": "a\n"}}}},
        "resilience": {"retry": {"maxRetries": -1}, "nothing": {}},
        "name": "x",
    }
    assert set(mistakes(document)) == {
        "$.tenantId", "$.method[0]", "$.method[1]", "$.path", "$.pathType", "$.upstreams[0].url",
        "$.upstreams[1].weight", "$.upstreams[2]", "$.transform.request.path.replacement",
        "$.transform.request.headers.set.Host", "$.resilience.retry.maxRetries",
        "$.resilience.nothing", "$.name",
    }  # fmt: skip


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b'"\xed\xa0\x80"', b"[" * 100_000, b"nan"])
def test_spec_refuses_what_is_not_json(raw: bytes) -> None:
    """Whatever is sent, it is the caller's mistake and no accident."""
    with pytest.raises(InvalidBody) as caught:
        read_spec(raw)
    assert [each["path"] for each in caught.value.errors] == ["$"]


@pytest.mark.parametrize("document", [None, [], 5, "x"])
def test_spec_refuses_what_is_no_object(document: Any) -> None:
    """A route is an object."""
    assert mistakes(document) == {"$": "must be an object"}


def test_spec_is_written_in_one_form() -> None:
    """Documents that mean the same are written the same, with every default said."""
    short = read(changed(("method", ["POST", "GET"]), ("resilience.retry", {})))
    long = read(
        changed(
            ("method", ["GET", "POST"]),
            ("loadBalancing", "round-robin"),
            ("resilience.retry.maxRetries", 3),
            ("resilience.fallback", None),
        )
    )
    assert spec_json(short) == spec_json(long)
    assert spec_json(read_spec(spec_json(short))) == spec_json(short)


def test_spec_does_not_show_the_headers_it_sets() -> None:
    """They may be secrets, and a representation ends in logs."""
    spec = read(changed(("transform.request.headers.set", {"Authorization": "s3cret"})))
    assert "s3cret" not in repr(spec)


def test_spec_names_all_its_urls() -> None:
    """Everywhere that a request may go to is there to be checked."""
    document = copy.deepcopy(FULL)
    document["resilience"]["fallback"]["upstream"] = "https://spare.example.com"
    assert list(urls_of(read(document))) == [
        ("$.upstreams[0].url", "http://127.0.0.1:3001"),
        ("$.upstreams[1].url", "http://127.0.0.1:3002"),
        ("$.resilience.fallback.upstream", "https://spare.example.com"),
    ]


# --- any document --------------------------------------------------------------------------------

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["/", "GET", "*", "http://h", "$1", "(", "regex", TENANT]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    members: Any = ()
    if isinstance(document, dict):
        members = document.items()
    elif isinstance(document, list):
        members = enumerate(document)
    inner = [place for name, value in members for place in places(value, (*path, name))]
    return [path, *inner] if path else inner


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_spec_takes_or_refuses_any_document(data: st.DataObject) -> None:
    """Whatever stands anywhere, it is told as a mistake, or written so that it is read the same."""
    document = copy.deepcopy(FULL)
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(places(document)))
        place = document
        for name in way:
            place = place[name]
        place[last] = data.draw(values)
    if not mistakes(document):
        spec = read(document)
        assert read_spec(spec_json(spec)) == spec


# --- merge patches -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_of_the_rfc(target: Any, patch: Any, expected: Any) -> None:
    """RFC 7396, appendix A; and what it is made from stays as it is."""
    before = copy.deepcopy(target)
    assert merge_patch(target, patch) == expected
    assert target == before
