"""Answers byte for byte, and what the upstream says of the requests."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.testing.upstream import (
    Answer,
    Cut,
    Events,
    Informational,
    Rule,
    Script,
    ScriptedUpstream,
    always,
    generated_digest,
)

from ._raw import GET, raw

OK = b"HTTP/1.1 200 OK\r\n"
POST = b"POST / HTTP/1.1\r\nHost: u\r\nContent-Length: 5\r\n\r\nhello"


async def one(step: Answer | Events, request: bytes = GET) -> bytes:
    """What one request on a connection in memory gets."""
    async with ScriptedUpstream(always(step)) as upstream:
        return await (await raw(upstream)).ask(request)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Answer(body="hé"), OK + b"Content-Length: 3\r\n\r\nh\xc3\xa9"),
        (
            Answer(status=599, headers=(("X-A", "b"), ("X-A", "c"))),
            b"HTTP/1.1 599 Unknown\r\nX-A: b\r\nX-A: c\r\nContent-Length: 0\r\n\r\n",
        ),
        (
            Answer(body="hello", framing="chunked", piece_bytes=3, trailers=(("X-T", "1"),)),
            OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nX-T: 1\r\n\r\n",
        ),
        (Answer(body="hello", framing="close"), OK + b"Connection: close\r\n\r\nhello"),
        (Answer(status=204, body="hello"), b"HTTP/1.1 204 No Content\r\n\r\n"),
        (
            Answer(headers=(("Content-Length", "9"),), body="short"),
            OK + b"Content-Length: 9\r\n\r\nshort",
        ),
        (
            Answer(informational=(Informational(headers=(("Link", "</a>"),)),)),
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
        ),
        (
            Events(count=1, ending="close"),
            OK + b"Content-Type: text/event-stream\r\nCache-Control: no-store\r\n"
            b'Transfer-Encoding: chunked\r\n\r\n1a\r\nid: 1\ndata: {"number":1}\n\n\r\n0\r\n\r\n',
        ),
    ],
)
async def test_answer_is_as_written(
    step: Answer | Events, expected: bytes, autojump_clock: MockClock
) -> None:
    """Nothing is added that the script does not say but the framing."""
    assert await one(step) == expected


@pytest.mark.parametrize(
    ("cut", "framing", "expected"),
    [
        (Cut(after_bytes=9, of="head"), "length", b"HTTP/1.1 "),
        (Cut(after_bytes=2), "length", OK + b"Content-Length: 5\r\n\r\nhe"),
        (Cut(after_bytes=2), "chunked", OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe"),
        (Cut(after_bytes=5), "chunked", OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
    ],
)
async def test_answer_is_cut_where_the_script_says(
    cut: Cut, framing: str, expected: bytes, autojump_clock: MockClock
) -> None:
    """Amid the head, the body, a chunk, or before the last one; and the connection ends."""
    script = always(msgspec.convert({"do": "answer", "framing": framing}, Answer, strict=False))
    step = msgspec.structs.replace(script.rules[0].step(0), body="hello", cut=cut)
    async with ScriptedUpstream(always(step)) as upstream:
        client = await raw(upstream)
        assert await client.ask() == expected
        assert upstream.seen().requests[0].outcome == "ended"


async def test_answer_to_head_has_no_body(autojump_clock: MockClock) -> None:
    """Its head is that of GET."""
    got = await one(Answer(body="hello"), GET.replace(b"GET", b"HEAD"))
    assert got == OK + b"Content-Length: 5\r\n\r\n"


async def test_echo_tells_the_request_as_it_came(autojump_clock: MockClock) -> None:
    """Target, order and case of headers, and the digest of the body; nothing is made nicer."""
    request = (
        b"POST /a%2Fb/../c?d=%20&&e HTTP/1.1\r\nhost: u\r\nX-B: 1\r\nx-a: \xe9\r\nX-B: 2\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-T: 1\r\n\r\n"
    )
    head, _, body = (await one(Answer(content="echo"), request)).partition(b"\r\n\r\n")
    assert b"Content-Type: application/json" in head
    assert msgspec.json.decode(body) == {
        "method": "POST",
        "target": "/a%2Fb/../c?d=%20&&e",
        "headers": [
            ["host", "u"],
            ["X-B", "1"],
            ["x-a", "é"],
            ["X-B", "2"],
            ["Transfer-Encoding", "chunked"],
        ],
        "length": 5,
        "digest": hashlib.sha256(b"hello").hexdigest(),
        "trailers": [["X-T", "1"]],
    }


async def test_mirror_sends_the_body_back_as_it_comes(autojump_clock: MockClock) -> None:
    """Each piece before the next has come; counted where the request's was."""
    async with ScriptedUpstream(always(Answer(content="mirror"))) as upstream:
        client = await raw(upstream)
        await client.stream.send_all(POST[:-3])
        head = OK + b"Content-Length: 5\r\n\r\n"
        assert await client.exactly(len(head) + 2) == head + b"he"
        await client.stream.send_all(b"llo")
        assert await client.exactly(3) == b"llo"
        assert upstream.seen().requests[0].digest == hashlib.sha256(b"hello").hexdigest()


async def test_steps_follow_one_another_and_begin_again(autojump_clock: MockClock) -> None:
    """Over all connections, each rule counting for itself; a new script begins anew."""
    script = Script(rules=(Rule(steps="500,503,200", path="/a"), Rule(steps="204", path="/b")))
    async with ScriptedUpstream(script) as upstream:

        async def statuses(path: bytes, count: int) -> list[int]:
            got = []
            for _ in range(count):
                client = await raw(upstream)
                await client.stream.send_all(b"GET " + path + b" HTTP/1.1\r\nHost: u\r\n\r\n")
                got.append(int((await client.exactly(12))[9:]))
            return got

        assert await statuses(b"/a", 2) == [500, 503]
        assert await statuses(b"/b", 2) == [204, 204]
        assert await statuses(b"/a", 2) == [200, 500]
        upstream.play(script)
        assert await statuses(b"/a", 1) == [500]
        assert await statuses(b"/nothing", 1) == [200]


async def test_slow_answer_takes_its_time(autojump_clock: MockClock) -> None:
    """Before the head and after each piece, in virtual time."""
    step = Answer(body="abcdef", head_seconds=3, piece_bytes=2, piece_seconds=1)
    async with ScriptedUpstream(always(step)) as upstream:
        client = await raw(upstream)
        began = trio.current_time()
        await client.stream.send_all(GET)
        head = await client.exactly(len(OK))
        assert (head, trio.current_time() - began) == (OK, 3)
        await client.exactly(len(b"Content-Length: 6\r\n\r\nabcdef"))
        assert trio.current_time() - began == 5


async def test_gate_holds_answers_until_it_is_opened(autojump_clock: MockClock) -> None:
    """All that wait there; and none afterwards."""
    async with ScriptedUpstream(always(Answer(gate="a", ending="close"))) as upstream:
        clients = [await raw(upstream) for _ in range(3)]
        for client in clients:
            await client.stream.send_all(GET)
        await trio.testing.wait_all_tasks_blocked()
        assert (upstream.seen().in_flight, upstream.seen().most_in_flight) == (3, 3)
        upstream.open_gate("a")
        for client in clients:
            assert (await client.rest()).startswith(OK)
        assert (await (await raw(upstream)).ask()).startswith(OK)
        assert upstream.seen().in_flight == 0


async def test_client_that_waits_to_continue_is_told(autojump_clock: MockClock) -> None:
    """Unless the script says otherwise."""
    head = POST.replace(b"\r\n\r\nhello", b"\r\nExpect: 100-continue\r\n\r\n")
    async with ScriptedUpstream(always(Answer(), Answer(sends_continue=False))) as upstream:
        client = await raw(upstream)
        await client.stream.send_all(head)
        told = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert await client.exactly(len(told)) == told
        await client.stream.send_all(b"hello")
        assert (await client.rest()).startswith(OK)
        client = await raw(upstream)
        await client.stream.send_all(head)
        assert await client.rest(5) == b""
        await client.stream.send_all(b"hello")
        assert (await client.rest()).startswith(OK)


async def test_early_answer_does_not_wait_for_the_body(autojump_clock: MockClock) -> None:
    """Beside reading it, or without reading it at all; then the connection cannot be kept."""
    for reading, is_ended in (("beside", False), ("never", True)):
        step = msgspec.convert({"do": "answer", "status": 413, "reading": reading}, Answer)
        async with ScriptedUpstream(always(step)) as upstream:
            client = await raw(upstream)
            await client.stream.send_all(POST[:-5])
            answer = b"HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 0\r\n\r\n"
            assert len(await client.exactly(len(answer))) == len(answer)
            assert await client.is_ended() is is_ended
            if not is_ended:
                await client.stream.send_all(b"hello")
                await trio.testing.wait_all_tasks_blocked()
            assert upstream.seen().requests[0].is_complete is not is_ended


async def test_generated_body_has_the_digest_that_is_told(autojump_clock: MockClock) -> None:
    """In pieces of any size."""
    step = Answer(size=300_000, framing="chunked", piece_bytes=7777, is_varied=True)
    async with ScriptedUpstream(always(step, Answer(content="mirror"))) as upstream:
        client = await raw(upstream)
        chunked = (await client.ask()).partition(b"\r\n\r\n")[2]
        mirrored = (
            await client.ask(
                b"POST / HTTP/1.1\r\nHost: u\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked
            )
        ).partition(b"\r\n\r\n")[2]
        (_, second) = upstream.seen().requests
        assert (second.length, second.digest) == (300_000, generated_digest(300_000))
        assert mirrored.endswith(b"0\r\n\r\n")
