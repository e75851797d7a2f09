"""Endpoints that are slow, down, hostile or nowhere: each try is bounded, judged, and told."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Literal

import pytest
import trio
import trustme
from trio.testing import MockClock

from bulkhead_trio.database.webhook_records import EndpointChange
from bulkhead_trio.database.work_records import Finished
from bulkhead_trio.delivery._message_rules import MOST_RESPONSE_BYTES
from bulkhead_trio.delivery._schedule_rules import RetrySchedule
from bulkhead_trio.delivery.endpoint_breakers import COOLDOWNS, FAILURES, PROBING_SECONDS
from bulkhead_trio.http.client import ClientLimits, HTTPClient
from bulkhead_trio.testing.upstream import (
    Answer,
    Cut,
    End,
    Informational,
    Raw,
    Rule,
    Script,
    ScriptedUpstream,
    always,
    resolve_to_loopback,
)
from bulkhead_trio.testing.upstream.script import Step

from ._webhooks import Post, open_post, post_by

FAILING = EndpointChange(is_failing=True)
FRESH = {"scheduled_since": datetime.datetime.now(datetime.UTC)}
"""A delivery that was made just now, and not months ago."""

HANGS = always(End(how="hang"))


def told(done: Finished) -> tuple[int | None, str | None, str | None]:
    """Status, error, and response of a try."""
    assert done.attempt is not None
    return done.attempt.status, done.attempt.error, done.attempt.response


def assert_no_address(done: Finished) -> None:
    assert done.attempt is not None
    for inner in ("127.0.0.1", "10.", "169.254", "::1", "loopback", "private", "metadata"):
        assert inner not in (done.attempt.error or "")


async def trip(post: Post) -> None:
    """Have the endpoint fail often enough to be left alone."""
    for _ in range(FAILURES):
        assert (await post.send()).outcome == "retry"


# --- time ----------------------------------------------------------------------------------------


async def test_endpoint_that_never_answers_has_15_seconds(autojump_clock: MockClock) -> None:
    """Then the try is over, and is tried again; the endpoint is failing."""
    async with open_post(HANGS) as post:
        began = trio.current_time()
        done = await post.send()
        assert trio.current_time() - began == pytest.approx(15, abs=0.01)
        assert (done.outcome, done.endpoint) == ("retry", FAILING)
        assert told(done) == (None, "there was no answer in time", None)
        assert done.attempt is not None
        assert done.attempt.duration_ms == pytest.approx(15_000, abs=10)
        assert post.client.statistics().connections == 0


@pytest.mark.parametrize(
    "script",
    [
        Script(connections=("hang",)),
        always(Answer(head_seconds=16)),
        always(Raw(data="HTTP/1.1 200 OK\r\nX-A: a\r\n", then="hang")),
        always(Raw(data="X-Drip: a\r\n", repeat=1, then="hang")),
        always(Answer(informational=(Informational(103),) * 3, head_seconds=16)),
        always(Answer(reading="before", read_seconds=30)),
        always(End(how="hang", reading="never")),
    ],
)
async def test_slowness_of_any_kind_is_bounded(autojump_clock: MockClock, script: Script) -> None:
    """15 seconds in all, wherever they go; also where nobody takes what is sent."""
    payload = b'"' + b"x" * 3_000_000 + b'"'
    async with open_post(script) as post:
        began = trio.current_time()
        done = await post.send(payload=payload)
        assert trio.current_time() - began <= 15.01
        assert done.outcome == "retry"
        assert told(done)[0] is None


async def test_name_that_is_looked_up_for_ever_is_bounded(autojump_clock: MockClock) -> None:
    """A resolver is an endpoint's too."""

    async def never(host: str, port: int) -> list[str]:
        await trio.sleep_forever()
        raise AssertionError("unreachable")

    async with open_post(resolve=never) as post:
        with trio.fail_after(15.01):
            done = await post.send()
        assert (done.outcome, told(done)[1]) == ("retry", "no connection could be made")


async def test_success_whose_body_does_not_end_is_success(autojump_clock: MockClock) -> None:
    """The status decides; what has come of the body by then is kept."""
    for answer in (
        Answer(size=5, piece_bytes=1, piece_seconds=10, framing="chunked"),
        Answer(body="thank you", cut=Cut(after_bytes=5, how="hang")),
        Answer(body="thank you", cut=Cut(after_bytes=5, how="reset")),
        Answer(body="thank you", framing="chunked", cut=Cut(after_bytes=5, how="close")),
    ):
        async with open_post(always(answer)) as post:
            with trio.fail_after(15.01):
                done = await post.send()
            assert done.outcome == "delivered"
            assert told(done)[:2] == (200, None)


async def test_what_has_come_of_a_body_is_kept(autojump_clock: MockClock) -> None:
    """Of an error's too."""
    answer = Answer(status=400, body="no such order", cut=Cut(after_bytes=7, how="hang"))
    async with open_post(always(answer)) as post:
        assert told(await post.send()) == (400, None, "no such")


# --- much ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [MOST_RESPONSE_BYTES - 1, MOST_RESPONSE_BYTES])
async def test_body_up_to_the_bound_is_kept_whole(autojump_clock: MockClock, size: int) -> None:
    """And its connection is kept for the next delivery."""
    async with open_post(always(Answer(body="x" * size))) as post:
        for _ in range(2):
            assert told(await post.send()) == (200, None, "x" * size)
        assert post.endpoint.seen().opened == 1


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_longer_body_is_abandoned(
    autojump_clock: MockClock, framing: Literal["length", "chunked", "close"]
) -> None:
    """Its beginning is kept, the rest is never read, and its connection is closed."""
    answer = Answer(body="x" * 5_000_000, framing=framing, piece_seconds=1)
    async with open_post(always(answer)) as post:
        began = trio.current_time()
        done = await post.send()
        assert trio.current_time() - began < 1
        assert told(done) == (200, None, "x" * MOST_RESPONSE_BYTES)
        assert post.client.statistics().connections == 0


async def test_body_that_comes_in_pieces_is_kept_whole(autojump_clock: MockClock) -> None:
    """Also a character that two pieces share."""
    answer = Answer(body="né à", framing="chunked", piece_bytes=1, piece_seconds=1)
    async with open_post(always(answer)) as post:
        assert told(await post.send()) == (200, None, "né à")


async def test_body_that_is_no_text_is_kept_as_something_readable(
    autojump_clock: MockClock,
) -> None:
    """Nothing that a database refuses or a terminal obeys."""
    raw = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\na\x00\x1b\xff\xc3b"
    async with open_post(always(Raw(data=raw))) as post:
        assert told(await post.send())[2] == "a\ufffd\ufffd\ufffd\ufffdb"


async def test_head_that_is_too_large_is_no_answer(autojump_clock: MockClock) -> None:
    """It is given up, and not read to its end."""
    script = always(Raw(data="HTTP/1.1 200 OK\r\n" + "X-A: aaaaaaaa\r\n" * 100, repeat=1000))
    async with open_post(script) as post:
        assert told(await post.send()) == (None, "what came is no HTTP answer", None)


# --- nowhere -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "ftp://hooks.example/",
        "http://",
        "hooks.example/hook",
        "http://user:word@hooks.example/",
        "http://hooks.example/a b",
        "http://hooks.example:99999/",
        "http://hooks.example/é",
        "",
    ],
)
async def test_url_that_is_none_is_dead(autojump_clock: MockClock, url: str) -> None:
    """It would be none tomorrow."""
    async with open_post() as post:
        done = await post.send(url=url)
        assert (done.outcome, done.retry_after_seconds) == ("dead", None)
        assert done.endpoint == FAILING
        assert told(done) == (None, "the URL cannot be requested", None)


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/hook",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/hook",
        "http://0177.0.0.1/hook",
        "http://2130706433/hook",
        "http://metadata.google.internal/",
    ],
)
async def test_address_that_may_not_be_connected_to_is_dead(
    autojump_clock: MockClock, url: str
) -> None:
    """Nobody is connected to, and the text says nothing of what is there."""
    async with open_post() as post:
        done = await post.send(url=url)
        assert (done.outcome, done.endpoint) == ("dead", FAILING)
        assert told(done)[1] == "the URL leads to an address that may not be connected to"
        assert_no_address(done)


@pytest.mark.parametrize("addresses", [["10.1.2.3"], ["127.0.0.1", "192.168.0.1"], ["fe80::1"]])
async def test_name_that_leads_inside_is_dead(
    autojump_clock: MockClock, addresses: list[str]
) -> None:
    """Whatever the name says, and although another of its addresses is allowed."""

    async def inside(host: str, port: int) -> list[str]:
        await trio.lowlevel.checkpoint()
        return addresses

    async with open_post(resolve=inside) as post:
        done = await post.send()
        assert done.outcome == "dead"
        assert_no_address(done)
        assert post.endpoint.seen().opened == 0


async def test_name_is_checked_for_every_connection(autojump_clock: MockClock) -> None:
    """A name that was good a moment ago and leads inside now (DNS rebinding) is refused now."""
    answers = [["127.0.0.1"], ["169.254.169.254"]]

    async def rebinding(host: str, port: int) -> list[str]:
        await trio.lowlevel.checkpoint()
        return answers.pop(0)

    async with open_post(always(Answer(ending="close")), resolve=rebinding) as post:
        assert (await post.send()).outcome == "delivered"
        await trio.sleep(1)
        done = await post.send()
        assert done.outcome == "dead"
        assert post.endpoint.seen().count == 1


async def test_loopback_that_is_not_allowed_is_refused(autojump_clock: MockClock) -> None:
    """As in production."""
    async with open_post(allowed=()) as post:
        assert (await post.send()).outcome == "dead"
        assert post.endpoint.seen().opened == 0


async def test_name_that_leads_nowhere_is_tried_again(autojump_clock: MockClock) -> None:
    """It may lead somewhere tomorrow."""

    async def nowhere(host: str, port: int) -> list[str]:
        await trio.lowlevel.checkpoint()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async with open_post(resolve=nowhere) as post:
        done = await post.send()
        assert (done.outcome, done.endpoint) == ("retry", FAILING)
        assert told(done) == (None, "the URL's host has no address", None)


async def test_endpoint_that_is_not_there_is_tried_again(autojump_clock: MockClock) -> None:
    """The text says that it refused, and not where."""
    async with open_post(Script(is_listening=False)) as post:
        done = await post.send()
        assert (done.outcome, told(done)[1]) == ("retry", "the connection was refused")
        assert_no_address(done)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (Script(connections=("close",)), "the connection ended before an answer came"),
        (Script(connections=("reset",)), "the connection ended before an answer came"),
        (always(End(how="close")), "the connection ended before an answer came"),
        (always(End(how="reset")), "the connection ended before an answer came"),
        (always(Answer(cut=Cut(5, of="head"))), "the connection ended before an answer came"),
        (always(Raw(data="SSH-2.0-OpenSSH\r\n")), "what came is no HTTP answer"),
        (always(Raw(data="HTTP/1.1 999 Odd\r\n\r\n")), "what came is no HTTP answer"),
        (always(Raw(data="HTTP/1.1 101 Up\r\n\r\n")), "what came is no HTTP answer"),
    ],
)
async def test_no_answer_is_tried_again(
    autojump_clock: MockClock, script: Script, error: str
) -> None:
    """Whatever happened instead."""
    async with open_post(script) as post:
        done = await post.send()
        assert (done.outcome, done.endpoint) == ("retry", FAILING)
        assert told(done) == (None, error, None)
        assert_no_address(done)


async def test_kept_connection_that_has_ended_costs_no_delivery(autojump_clock: MockClock) -> None:
    """The endpoint closes after each answer: the next delivery is made on a new connection."""
    async with open_post(always(Answer(ending="close"))) as post:
        for _ in range(5):
            assert (await post.send()).outcome == "delivered"
            await trio.sleep(1)


@contextlib.asynccontextmanager
async def open_tls(trusts: bool) -> AsyncIterator[Post]:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("hooks.example").configure_cert(server)
    context = ssl.create_default_context()
    if trusts:
        authority.configure_trust(context)
    async with ScriptedUpstream(tls=server) as endpoint:
        async with HTTPClient(resolve=resolve_to_loopback, tls_context=context) as client:
            yield post_by(client, endpoint)


async def test_endpoint_with_a_good_certificate_is_delivered_to() -> None:
    """Over TLS, on real sockets and the true clock."""
    async with open_tls(trusts=True) as post:
        assert (await post.send()).outcome == "delivered"


async def test_endpoint_with_a_bad_certificate_is_told_so() -> None:
    """Nothing is sent to whoever cannot prove who it is."""
    async with open_tls(trusts=False) as post:
        done = await post.send()
        assert (done.outcome, told(done)[1]) == ("retry", "the certificate could not be verified")
        assert not post.endpoint.seen().requests


# --- the breaker ---------------------------------------------------------------------------------


async def test_endpoint_that_is_down_is_left_alone(autojump_clock: MockClock) -> None:
    """After five tries in a row that came to nothing none is made until its cooldown is over.

    The last of them says for how long, so that no instance sends anything meanwhile; what had been
    claimed already is put back, and that is no try.
    """
    steps: tuple[Step, ...] = (*(End(how="hang") for _ in range(FAILURES)), Answer())
    async with open_post(Script(rules=(Rule(steps=steps, then="last"),))) as post:
        for number in range(FAILURES):
            done = await post.send()
            hold = COOLDOWNS[0] if number == FAILURES - 1 else None
            assert done.outcome == "retry"
            assert done.endpoint == EndpointChange(is_failing=True, slow_seconds=hold)
        await trio.sleep(1)
        done = await post.send(attempts=4, **FRESH)
        assert (done.outcome, done.attempts_before, done.attempt) == ("deferred", 4, None)
        left = COOLDOWNS[0] - 1
        assert done.retry_after_seconds == pytest.approx(left * 1.05)
        assert done.endpoint is not None
        assert done.endpoint.slow_seconds == pytest.approx(left)
        assert post.endpoint.seen().count == FAILURES
        assert post.sender.statistics().states["OPEN"] == 1

        await trio.sleep(done.retry_after_seconds or 0)
        assert (await post.send()).outcome == "delivered"
        assert (await post.send()).outcome == "delivered"
        assert post.sender.statistics().states["CLOSED"] == 1


async def test_one_delivery_finds_out_and_the_others_wait(autojump_clock: MockClock) -> None:
    """While the probe is out nothing else is sent, and the others come back soon."""
    async with open_post(HANGS) as post:
        await trip(post)
        await trio.sleep(COOLDOWNS[0])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(post.send)
            await trio.testing.wait_all_tasks_blocked()
            done = await post.send(**FRESH)
        assert done.outcome == "deferred"
        assert done.retry_after_seconds == pytest.approx(PROBING_SECONDS * 1.05)
        assert done.endpoint == EndpointChange(is_failing=True, slow_seconds=PROBING_SECONDS)
        assert post.endpoint.seen().count == FAILURES + 1


async def test_delivery_that_is_late_is_not_put_off_any_more(autojump_clock: MockClock) -> None:
    """An endpoint that is down for good is tried now and then; its deliveries end all the same.

    Once all of the schedule's time has passed, being left alone is a failed try; when it was made
    has no say, for it may have been replayed since, or its endpoint switched on.
    """
    schedule = RetrySchedule((10.0, 20.0))
    async with open_post(HANGS, schedule=schedule) as post:
        await trip(post)
        longest = 33 + 3 * 15
        made = datetime.datetime.now(datetime.UTC)
        post.wall.ahead = longest - 5
        assert (await post.send(scheduled_since=made)).outcome == "deferred"
        post.wall.ahead = longest + 5
        done = await post.send(scheduled_since=made, attempts=1)
        assert (done.outcome, done.retry_after_seconds) == ("retry", 20.0)
        assert told(done) == (None, "not sent: the endpoint has not been answering", None)
        assert done.attempt is not None
        assert (done.attempt.number, done.attempt.duration_ms) == (2, 0)
        assert done.endpoint == FAILING
        assert (await post.send(scheduled_since=made, attempts=2)).outcome == "dead"
        assert post.endpoint.seen().count == FAILURES


@pytest.mark.parametrize(
    "script",
    [
        always(Answer(status=500)),
        always(Answer(status=502)),
        always(End(how="reset")),
        always(Raw(data="nonsense\r\n\r\n")),
        Script(is_listening=False),
    ],
)
async def test_endpoint_that_fails_at_once_is_not_left_alone(
    autojump_clock: MockClock, script: Script
) -> None:
    """It holds up nobody; each of its deliveries has the schedule's time to succeed, or to end."""
    async with open_post(script) as post:
        outcomes = {(await post.send(**FRESH)).outcome for _ in range(3 * FAILURES)}
        assert outcomes == {"retry"}
        assert post.sender.statistics().opened == 0


async def test_endpoint_that_fails_slowly_is_left_alone(autojump_clock: MockClock) -> None:
    """Whatever it says in the end."""
    async with open_post(always(Answer(status=500, head_seconds=2))) as post:
        await trip(post)
        assert (await post.send(**FRESH)).outcome == "deferred"


@pytest.mark.parametrize("status", [400, 404, 409, 429, 301])
async def test_endpoint_that_answers_is_not_left_alone(
    autojump_clock: MockClock, status: int
) -> None:
    """It refuses what it is sent, which says nothing of the next delivery."""
    async with open_post(always(Answer(status=status, head_seconds=2))) as post:
        outcomes = {(await post.send(**FRESH)).outcome for _ in range(3 * FAILURES)}
        assert "deferred" not in outcomes
        assert post.sender.statistics().opened == 0


async def test_our_own_trouble_is_not_the_endpoints(autojump_clock: MockClock) -> None:
    """An unreadable secret neither keeps others from being sent nor makes the endpoint good."""
    async with open_post() as post:
        for _ in range(2 * FAILURES):
            await post.send(secrets=())
        assert (await post.send()).outcome == "delivered"
        post.endpoint.play(HANGS)
        for _ in range(FAILURES):
            await post.send(secrets=())
            await post.send()
        assert (await post.send(**FRESH)).outcome == "deferred"


# --- no place ------------------------------------------------------------------------------------


async def test_no_connection_free_is_no_try(autojump_clock: MockClock) -> None:
    """Our own limit is not the endpoint's failure: it is looked at again in a second."""
    limits = ClientLimits(connections=1, waiting=0)
    async with open_post(HANGS, limits=limits) as post:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(post.send)
            await trio.testing.wait_all_tasks_blocked()
            done = await post.send(attempts=1)
        assert (done.outcome, done.attempt, done.endpoint) == ("deferred", None, None)
        assert done.retry_after_seconds == pytest.approx(1.05)


async def send_until_closed(script: Script) -> tuple[Finished, Post]:
    """A try whose client is closed after a second."""
    results: list[Finished] = []
    async with ScriptedUpstream(script) as endpoint, trio.open_nursery() as nursery:
        async with HTTPClient(resolve=resolve_to_loopback) as client:
            post = post_by(client, endpoint)

            async def send() -> None:
                results.append(await post.send())

            nursery.start_soon(send)
            await trio.sleep(1)
    (done,) = results
    return done, post


async def test_client_that_is_closed_meanwhile_is_no_try(autojump_clock: MockClock) -> None:
    """The server ends: somebody else tries, and the endpoint is not blamed."""
    done, post = await send_until_closed(HANGS)
    assert (done.outcome, done.attempt) == ("deferred", None)
    assert post.breaker.failed == 0


async def test_client_that_is_closed_after_the_status_changes_nothing(
    autojump_clock: MockClock,
) -> None:
    """What has been taken is not sent again for the rest of an answer's body."""
    answer = Answer(body="thank you", cut=Cut(after_bytes=5, how="hang"))
    done, _ = await send_until_closed(always(answer))
    assert done.outcome == "delivered"
    assert told(done) == (200, None, "thank")
