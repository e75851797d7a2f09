"""Headers on the way through: what is dropped, what is said, and what nobody can smuggle."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.gateway._header_names import HOP_BY_HOP
from bulkhead_trio.gateway._header_rules import (
    Header,
    RequestFacts,
    RequestHeaderRules,
    ResponseHeaderRules,
    hops_through_us,
)
from bulkhead_trio.gateway._location_rules import Asked
from bulkhead_trio.gateway.spec import RequestHeadersSpec, ResponseHeadersSpec
from bulkhead_trio.http.client._url_rules import origin_of

FACTS = RequestFacts(
    peer="203.0.113.7", scheme="http", request_id="req-1", parent_id=0xABC, timeout=1.5
)
TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
PLAIN = RequestHeaderRules()
OUR_REQUEST_HEADERS = {
    b"x-forwarded-for": b"203.0.113.7",
    b"x-forwarded-proto": b"http",
    b"via": b"1.1 bulkhead-trio",
    b"x-request-id": b"req-1",
    b"x-request-timeout": b"1.500",
}


def facts(**changes: Any) -> RequestFacts:
    return msgspec.structs.replace(FACTS, **changes)


def sent(headers: list[Header], rules: RequestHeaderRules = PLAIN, **changes: Any) -> list[Header]:
    return rules.apply(headers, facts(**changes))


def passed(headers: list[Header], rules: RequestHeaderRules = PLAIN) -> list[Header]:
    """What of the request's headers is passed on, without what we say ourselves."""
    return sent(headers, rules)[: -len(sent([], rules)) or None]


def values(headers: list[Header], name: bytes) -> list[bytes]:
    return [value for each, value in headers if each == name]


# --- requests ------------------------------------------------------------------------------------


def test_request_headers_stay_in_their_order() -> None:
    """Names that are there twice too, with whatever they have in them."""
    headers = [
        (b"accept", b"a"), (b"cookie", b"x=1"), (b"x-a", b"\xe4"), (b"cookie", b"y=2"),
        (b"authorization", b"Bearer t"), (b"content-length", b"5"), (b"content-type", b"a/b"),
    ]  # fmt: skip
    assert passed(headers) == headers


def test_request_headers_say_what_we_say() -> None:
    """For whom, how and where; by whom; in which request and trace; and how long."""
    said = dict(sent([(b"host", b"api.example.com:81")]))
    trace = said.pop(b"traceparent")
    assert said == {**OUR_REQUEST_HEADERS, b"x-forwarded-host": b"api.example.com:81"}
    assert re.fullmatch(rb"00-[0-9a-f]{32}-0000000000000abc-00", trace)


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP | {b"x-api-key", b"x-admin-key", b"expect"}))
def test_request_headers_of_one_connection_are_dropped(name: bytes) -> None:
    """And those that open the gateway itself."""
    assert passed([(name, b"x"), (b"a", b"b")]) == [(b"a", b"b")]


@pytest.mark.parametrize(
    ("connection", "kept"),
    [
        ([b"close"], [b"x-a", b"x-b"]),
        ([b"keep-alive, X-A"], [b"x-b"]),
        ([b"x-a ,\tx-b"], []),
        ([b"x-a", b"X-B"], []),
        ([b",,"], [b"x-a", b"x-b"]),
    ],
)
def test_request_headers_named_by_connection_are_dropped(
    connection: list[bytes], kept: list[bytes]
) -> None:
    """However it is written, and wherever it stands."""
    headers = [(b"x-a", b"1"), *((b"connection", each) for each in connection), (b"x-b", b"2")]
    assert [name for name, _ in passed(headers)] == kept


def test_request_headers_that_we_say_cannot_be_named_away() -> None:
    """Nor the length of the body, without which it would end somewhere else."""
    names = b"host, content-length, x-forwarded-for, x-forwarded-proto, via, x-request-id, x-set"
    rules = RequestHeaderRules.of(RequestHeadersSpec(set={"X-Set": "1"}))
    headers = [(b"connection", names), (b"content-length", b"5"), (b"host", b"h")]
    said = dict(sent(headers, rules, host=b"up:81"))
    assert said.keys() >= {*OUR_REQUEST_HEADERS, b"host", b"content-length", b"x-set"}
    assert (said[b"host"], said[b"x-forwarded-host"]) == (b"up:81", b"h")


FORGED = [
    (b"x-forwarded-for", b"127.0.0.1"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"evil.example"),
    (b"x-forwarded-prefix", b"/admin"),
    (b"x-forwarded-user", b"root"),
    (b"forwarded", b"for=127.0.0.1"),
    (b"x-real-ip", b"127.0.0.1"),
    (b"true-client-ip", b"127.0.0.1"),
    (b"x-original-url", b"/admin"),
    (b"x-rewrite-url", b"/admin"),
]


def test_request_headers_of_forwarding_are_not_believed() -> None:
    """What anybody says of whom he speaks for is dropped, not passed on beside the truth."""
    said = sent([(b"host", b"h"), *FORGED])
    assert sorted(said) == sorted(sent([(b"host", b"h")]))


def test_request_headers_of_trusted_proxies_are_believed() -> None:
    """They are carried on, with the proxy added to the list; and the rest stays as it is."""
    said = sent(
        [(b"host", b"h"), (b"x-forwarded-for", b"1.2.3.4, 5.6.7.8"), *FORGED], is_trusted=True
    )
    assert values(said, b"x-forwarded-for") == [b"1.2.3.4, 5.6.7.8, 127.0.0.1, 203.0.113.7"]
    assert values(said, b"x-forwarded-proto") == [b"https"]
    assert values(said, b"x-forwarded-host") == [b"evil.example"]
    assert values(said, b"x-forwarded-prefix") == [b"/admin"]
    assert values(said, b"forwarded") == [b"for=127.0.0.1"]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"x-forwarded-proto", b"gopher"), (b"x-forwarded-host", b"a b")],
        [(b"x-forwarded-proto", b"http"), (b"x-forwarded-proto", b"https")],
        [(b"x-forwarded-proto", b"https, http"), (b"x-forwarded-host", b"a, b")],
        [(b"x-forwarded-host", b"a"), (b"x-forwarded-host", b"b")],
    ],
)
def test_request_headers_of_trusted_proxies_may_be_nonsense(headers: list[Header]) -> None:
    """Then what we know ourselves is said."""
    said = sent([(b"host", b"h"), *headers], is_trusted=True)
    assert values(said, b"x-forwarded-proto") == [b"http"]
    assert values(said, b"x-forwarded-host") == [b"h"]


def test_request_headers_without_a_peer_say_nothing_of_it() -> None:
    """Behind a Unix socket nobody knows; a trusted proxy may."""
    assert values(sent([], peer=""), b"x-forwarded-for") == []
    said = sent([(b"x-forwarded-for", b"1.2.3.4")], peer="", is_trusted=True)
    assert values(said, b"x-forwarded-for") == [b"1.2.3.4"]


def test_request_headers_add_us_to_via() -> None:
    """After those before, in their order, with the version as it came."""
    said = sent([(b"via", b"1.0 a, 1.1 b"), (b"x", b"y"), (b"via", b"2 c")], http_version="1.0")
    assert values(said, b"via") == [b"1.0 a, 1.1 b, 2 c, 1.0 bulkhead-trio"]


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        (b"00-%b-00f067aa0ba902b7-01", b"01"),
        (b"00-%b-00f067aa0ba902b7-00", b"00"),
        (b"00-%b-00f067aa0ba902b7-ff", b"03"),
        (b"cc-%b-00f067aa0ba902b7-01", b"01"),
        (b"cc-%b-00f067aa0ba902b7-01-what-will-come", b"01"),
    ],
)
def test_request_headers_carry_a_trace_on(given_: bytes, expected: bytes) -> None:
    """In the same trace, with us as the parent; in version 00, which is the one that we know."""
    headers = [(b"tracestate", b"a=1"), (b"traceparent", given_ % TRACE), (b"tracestate", b"b=2")]
    said = sent(headers)
    assert values(said, b"traceparent") == [b"00-%b-0000000000000abc-%b" % (TRACE, expected)]
    assert values(said, b"tracestate") == [b"a=1", b"b=2"]


@pytest.mark.parametrize(
    "given_",
    [
        [b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01"],
        [b"00-" + TRACE + b"-0000000000000000-01"],
        [b"ff-" + TRACE + b"-00f067aa0ba902b7-01"],
        [b"00-" + TRACE.upper() + b"-00f067aa0ba902b7-01"],
        [b"00-" + TRACE + b"-00f067aa0ba902b7-01-more"],
        [b"00-" + TRACE + b"-00f067aa0ba902b7-1"],
        [b"cc-" + TRACE + b"-00f067aa0ba902b7-01x"],
        [b"00-" + TRACE + b"-00f067aa0ba902b7-01"] * 2,
        [b""],
    ],
)
def test_request_headers_begin_a_trace_where_there_is_none(given_: list[bytes]) -> None:
    """Nothing is kept of one that is invalid, its state neither; all tries are in the same."""
    headers = [(b"tracestate", b"a=1"), *((b"traceparent", each) for each in given_)]
    first = sent(headers, parent_id=1)
    (one,), (other,) = values(first, b"traceparent"), values(sent([], parent_id=2), b"traceparent")
    assert re.fullmatch(rb"00-(?!0{32})[0-9a-f]{32}-0000000000000001-00", one)
    assert one[:35] == other[:35]
    assert TRACE not in one
    assert values(first, b"tracestate") == []
    assert values(sent([], request_id="req-2"), b"traceparent")[0][:35] != one[:35]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.5, [b"1.500"]), (0.0019, [b"0.001"]), (0.0001, [b"0.001"]), (60, [b"60.000"]), (None, [])],
)
def test_request_headers_say_what_is_left_of_the_deadline(
    seconds: float | None, text: list[bytes]
) -> None:
    """In place of what the client has said; never more than there is, never nothing."""
    said = sent([(b"x-request-timeout", b"99")], timeout=seconds)
    assert values(said, b"x-request-timeout") == text


def test_request_headers_ask_for_a_web_socket_where_that_is_meant() -> None:
    """Only then, and in our own words."""
    headers = [
        (b"connection", b"Upgrade"), (b"upgrade", b"websocket"), (b"sec-websocket-key", b"k"),
    ]  # fmt: skip
    said = sent(headers, is_tunnel=True)
    assert values(said, b"connection") == [b"upgrade"]
    assert values(said, b"upgrade") == [b"websocket"]
    assert values(said, b"sec-websocket-key") == [b"k"]
    assert not {b"connection", b"upgrade"} & {name for name, _ in sent(headers)}


def test_request_headers_are_changed_as_the_route_says() -> None:
    """Set is in place of, add is beside, remove is without; letters do not matter."""
    spec = RequestHeadersSpec(
        set={"Authorization": "Basic x"},
        add={"X-Tag": "2", "authorization": "more"},
        remove=("Cookie",),
    )
    headers = [(b"authorization", b"mine"), (b"x-tag", b"1"), (b"cookie", b"c"), (b"a", b"b")]
    rules = RequestHeaderRules.of(spec)
    said = sent(headers, rules)
    assert values(said, b"authorization") == [b"Basic x", b"more"]
    assert values(said, b"x-tag") == [b"1", b"2"]
    assert values(said, b"cookie") == []
    assert values(said, b"a") == [b"b"]


names = st.sampled_from(
    [
        b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"via",
        b"host", b"content-length", b"x-api-key", b"x-forwarded-for", b"x-forwarded-host", b"a",
        b"x-forwarded-proto", b"x-request-id", b"traceparent", b"tracestate", b"x-set", b"cookie",
        b"x-request-timeout", b"proxy-authorization", b"expect", b"forwarded",
    ]
)  # fmt: skip
texts = st.sampled_from(
    [b"", b"x", b"a, x-set", b"content-length, host", b"chunked", b"close, a", b"Via", b"1.1 x"]
)
lists = st.lists(st.tuples(names, texts), max_size=12)


@given(headers=lists, is_trusted=st.booleans())
def test_request_headers_hold_whatever_is_sent(headers: list[Header], is_trusted: bool) -> None:
    """Nothing of one connection, no key; what we say is there once; the rest stays."""
    rules = RequestHeaderRules.of(RequestHeadersSpec(set={"X-Set": "ours"}))
    said = sent(headers, rules, is_trusted=is_trusted, host=b"up")
    got = [name for name, _ in said]
    assert not set(got) & (HOP_BY_HOP | {b"x-api-key", b"expect"})
    for name in (b"host", b"x-forwarded-proto", b"via", b"x-request-id", b"traceparent", b"x-set"):
        assert got.count(name) == 1
    assert said[-1] == (b"x-set", b"ours")
    assert values(said, b"content-length") == values(headers, b"content-length")
    if not is_trusted:
        assert dict(said)[b"x-forwarded-for"] == b"203.0.113.7"
        assert b"forwarded" not in got
    named = {part.strip() for _, text in headers if _ == b"connection" for part in text.split(b",")}
    expected = [h for h in headers if h[0] in (b"a", b"cookie") and h[0] not in named]
    assert [h for h in said if h[0] in (b"a", b"cookie")] == expected


# --- answers -------------------------------------------------------------------------------------


def test_response_headers_stay_in_their_order() -> None:
    """Cookies above all, which cannot be put into one."""
    headers = [
        (b"set-cookie", b"a=1"), (b"content-type", b"text/html"), (b"set-cookie", b"b=2"),
        (b"content-length", b"5"), (b"date", b"now"),
    ]  # fmt: skip
    assert ResponseHeaderRules().apply(headers) == [*headers, (b"via", b"1.1 bulkhead-trio")]


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP | {b"x-request-id"}))
def test_response_headers_of_one_connection_are_dropped(name: bytes) -> None:
    """Trailers too, of which none follow; and the request's id is ours to say."""
    headers = [(b"a", b"b"), (name, b"x")]
    assert ResponseHeaderRules().apply(headers) == [(b"a", b"b"), (b"via", b"1.1 bulkhead-trio")]


def test_response_headers_named_by_connection_are_dropped() -> None:
    """But for the length of the body."""
    headers = [
        (b"x-a", b"1"),
        (b"connection", b"close, X-A, content-length"),
        (b"content-length", b"5"),
    ]
    said = ResponseHeaderRules().apply(headers)
    assert said == [(b"content-length", b"5"), (b"via", b"1.1 bulkhead-trio")]


def test_response_headers_are_changed_as_the_route_says() -> None:
    """As those of requests; what the gateway says itself is in place of the upstream's."""
    spec = ResponseHeadersSpec(set={"Server": "x"}, add={"Vary": "b"}, remove=("X-Powered-By",))
    said = ResponseHeaderRules.of(spec).apply(
        [
            (b"server", b"php"), (b"x-powered-by", b"php"), (b"vary", b"a"), (b"ratelimit", b"up"),
            (b"via", b"1.1 a"),
        ],
        ours=[(b"ratelimit", b"ours")],
        http_version="1.0",
    )  # fmt: skip
    assert said == [
        (b"vary", b"a"), (b"via", b"1.1 a, 1.0 bulkhead-trio"), (b"ratelimit", b"ours"),
        (b"server", b"x"), (b"vary", b"b"),
    ]  # fmt: skip


ASKED = Asked(origin_of("http://inner.example:3001"), b"/v2", b"/api/users")


def test_response_headers_lead_back_to_where_the_client_has_asked() -> None:
    """In their places, and no others: a cookie or a link is what it was."""
    inner = b"http://inner.example:3001/v2/7"
    headers = [(b"location", inner), (b"link", inner), (b"content-location", inner), (b"a", b"b")]
    said = ResponseHeaderRules().apply(headers, asked=ASKED)
    assert said == [
        (b"location", b"/api/users/7"), (b"link", inner), (b"content-location", b"/api/users/7"),
        (b"a", b"b"), (b"via", b"1.1 bulkhead-trio"),
    ]  # fmt: skip
    assert ResponseHeaderRules().apply(headers)[:-1] == headers


def test_response_headers_lead_where_the_route_says() -> None:
    """It may have them as they are, in other words, or not at all."""
    headers = [(b"location", b"http://inner.example:3001/v2/7")]
    said = ResponseHeaderRules(leads_back=False).apply(headers, asked=ASKED)
    assert said[:-1] == headers
    for spec, wanted in (
        (ResponseHeadersSpec(remove=("Location",)), []),
        (ResponseHeadersSpec(set={"Location": "/x"}), [b"/x"]),
    ):
        said = ResponseHeaderRules(spec).apply(headers, asked=ASKED)
        assert values(said, b"location") == wanted
    named = [(b"connection", b"location"), *headers]
    assert values(ResponseHeaderRules().apply(named, asked=ASKED), b"location") == []


def test_response_headers_switch_to_a_web_socket_where_that_is_meant() -> None:
    """In our own words, whatever the upstream says beside."""
    headers = [
        (b"connection", b"Upgrade"),
        (b"upgrade", b"WebSocket, x"),
        (b"sec-websocket-accept", b"k"),
    ]
    said = ResponseHeaderRules().apply(headers, is_tunnel=True)
    assert said == [
        (b"sec-websocket-accept", b"k"), (b"via", b"1.1 bulkhead-trio"),
        (b"connection", b"upgrade"), (b"upgrade", b"websocket"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("via", "hops"),
    [
        ([], 0),
        ([b"1.1 other"], 0),
        ([b"1.1 bulkhead-trio"], 1),
        ([b"1.1 bulkhead-trio, 1.1 x", b"2 bulkhead-trio (v1)"], 2),
        ([b"bulkhead-trio", b""], 0),
    ],
)
def test_hops_through_us_are_counted(via: list[bytes], hops: int) -> None:
    """So that a circle can be told from a way."""
    assert hops_through_us([(b"via", each) for each in via]) == hops
