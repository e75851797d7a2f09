"""Notifications posted to URLs, over real sockets on the mock clock."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import msgspec
import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.delivery._schedule_rules import RetrySchedule
from bulkhead_trio.delivery.channels import Channels, HTTPChannel
from bulkhead_trio.http.client import ClientLimits, HTTPClient, NetworkPolicy, guarded_resolve
from bulkhead_trio.http.client._audience_rules import Audience
from bulkhead_trio.http.client.identity import Identity
from bulkhead_trio.http.client.oauth2 import ClientCredentials, TokenSource
from bulkhead_trio.testing.cancellation import CancellationPoint, sweep_cancellations
from bulkhead_trio.testing.upstream import Answer, Script, ScriptedUpstream
from bulkhead_trio.testing.upstream.script import End, Rule, Step
from bulkhead_trio.testing.upstream.seen import RequestSeen

from ._mail import MOMENT, NOTIFICATION_ID, told, work

HERE = NetworkPolicy([ipaddress.ip_network("127.0.0.0/8")])


def steps(*each: Step) -> Script:
    return Script(rules=(Rule(steps=each, then="last"),))


@attrs.frozen
class Post:
    """A receiver, and the channel that posts to it."""

    receiver: ScriptedUpstream
    client: HTTPClient
    channels: Channels

    async def sent(self, path: str = "/inbox") -> tuple[str, int | None, str | None]:
        item = work("http", f"{self.receiver.url}{path}")
        return told(await self.channels.send(item))

    @property
    def requests(self) -> tuple[RequestSeen, ...]:
        return self.receiver.seen().requests


@asynccontextmanager
async def posting(
    *each: Step, policy: NetworkPolicy = HERE, identity: Identity | None = None
) -> AsyncIterator[Post]:
    async with (
        ScriptedUpstream(steps(*each)) as receiver,
        HTTPClient(ClientLimits(), resolve=guarded_resolve(policy)) as client,
    ):
        channel = HTTPChannel(client, identity=identity, wall_clock=MOMENT.timestamp)
        channels = Channels(
            {"http": channel},
            schedule=RetrySchedule(),
            random=lambda: 0.0,
            wall_clock=MOMENT.timestamp,
        )
        yield Post(receiver, client, channels)
        statistics = client.statistics()
        assert statistics.connections == statistics.idle


async def test_notification_is_posted_as_json(autojump_clock: MockClock) -> None:
    """Its members by their names, and its id as the key that tells it apart."""
    async with posting(Answer(status=202, body="thanks")) as there:
        item = work("http", f"{there.receiver.url}/inbox?a=b")
        finished = await there.channels.send(item)
        (request,) = there.requests
    assert told(finished) == ("delivered", 202, None)
    assert finished.attempt is not None
    assert finished.attempt.response == "thanks"
    assert (request.method, request.target) == ("POST", "/inbox?a=b")
    assert request.header("content-type") == "application/json"
    assert request.header("idempotency-key") == NOTIFICATION_ID
    assert request.header("authorization") is None
    body = {
        "id": NOTIFICATION_ID,
        "to": item.recipient,
        "subject": "Grüße",
        "body": "hello, 世界",
    }
    assert request.digest == hashlib.sha256(msgspec.json.encode(body)).hexdigest()


@pytest.mark.parametrize(
    ("step", "tries", "outcome", "status"),
    [
        (Answer(status=204), 1, "delivered", 204),
        (Answer(status=302, headers=(("Location", "/other"),)), 1, "retry", 302),
        (Answer(status=400), 1, "dead", 400),
        (Answer(status=401), 1, "dead", 401),
        (Answer(status=410), 1, "dead", 410),
        (Answer(status=408), 1, "retry", 408),
        (Answer(status=429), 1, "retry", 429),
        (Answer(status=502), 1, "retry", 502),
        (Answer(status=500), 4, "retry", 500),
        (Answer(status=503, headers=(("Retry-After", "60"),)), 1, "retry", 503),
        (End(how="reset"), 4, "retry", None),
    ],
)
async def test_answer_decides(
    step: Step, tries: int, outcome: str, status: int | None, autojump_clock: MockClock
) -> None:
    """As for webhooks; a moment later again what may have passed by then."""
    async with posting(step) as there:
        found = await there.sent()
        assert found[:2] == (outcome, status)
        assert len(there.requests) == tries
        keys = {request.header("idempotency-key") for request in there.requests}
        assert keys == {NOTIFICATION_ID}
        assert {request.target for request in there.requests} == {"/inbox"}


async def test_failure_that_passes_is_no_second_attempt(autojump_clock: MockClock) -> None:
    """Within one."""
    async with posting(Answer(status=500), End(how="close"), Answer()) as there:
        assert (await there.sent())[:2] == ("delivered", 200)
        assert len(there.requests) == 3


async def test_receiver_may_ask_to_wait(autojump_clock: MockClock) -> None:
    """By seconds, or by a date of the world's clock."""
    until = "Wed, 11 Feb 2026 12:02:00 GMT"
    async with posting(Answer(status=429, headers=(("Retry-After", until),))) as there:
        item = work("http", there.receiver.url)
        finished = await there.channels.send(item)
        assert finished.retry_after_seconds == pytest.approx(120)


async def test_receiver_that_hangs_is_left(autojump_clock: MockClock) -> None:
    """After half a minute, four times, two minutes in all."""
    async with posting(End(how="hang", seconds=1000)) as there:
        began = trio.current_time()
        outcome, status, error = await there.sent()
        assert (outcome, status, error) == ("retry", None, "there was no answer in time")
        assert trio.current_time() - began == pytest.approx(120, abs=1)


async def test_body_that_does_not_end_changes_nothing(autojump_clock: MockClock) -> None:
    """What was answered is known by then; a little is kept, and not waited for for long."""
    long = Answer(size=10_000_000)
    slow = Answer(body="x" * 100, piece_bytes=1, piece_seconds=10)
    for step in (long, slow):
        async with posting(step) as there:
            began = trio.current_time()
            assert (await there.sent())[:2] == ("delivered", 200)
            assert trio.current_time() - began < 6


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://127.0.0.1:1/", "the URL leads to an address that may not be connected to"),
        ("http://169.254.169.254/", "the URL leads to an address that may not be connected to"),
        ("ftp://a.example", "the URL cannot be requested"),
        ("not a url", "the URL cannot be requested"),
        ("http://a.example/\r\nx: y", "the URL cannot be requested"),
    ],
)
async def test_url_that_may_not_be_asked_is_dead(
    url: str, error: str, autojump_clock: MockClock
) -> None:
    """Inside, at a cloud's metadata, or no URL at all; nothing is sent."""
    async with posting(Answer(), policy=NetworkPolicy()) as there:
        assert told(await there.channels.send(work("http", url))) == ("dead", None, error)


async def test_dead_server_of_one_tenant_is_nobody_elses(autojump_clock: MockClock) -> None:
    """Each has a breaker for each origin."""
    async with posting(Answer(status=500)) as there:
        for _ in range(10):
            item = work("http", there.receiver.url)
            finished = await there.channels.send(item)
        assert finished.outcome == "deferred"
        there.receiver.play(steps(Answer()))
        other = msgspec.structs.replace(item, tenant_id=item.item_id)
        assert (await there.channels.send(other)).outcome == "delivered"


async def test_post_is_cancelled_anywhere(autojump_clock: MockClock) -> None:
    """No connection is left in anybody's hands."""

    async with posting(Answer()) as there:

        async def scenario(point: CancellationPoint) -> None:
            with point:
                assert (await there.sent())[0] == "delivered"
            statistics = there.client.statistics()
            assert statistics.connections == statistics.idle

        assert await sweep_cancellations(scenario) >= 2


# --- as somebody ---------------------------------------------------------------------------------


@asynccontextmanager
async def as_somebody(audience: str, *each: Step) -> AsyncIterator[tuple[Post, ScriptedUpstream]]:
    """Post with an identity; its endpoint gives the tokens ``t1``, ``t2`` and so on."""
    tokens = [
        Answer(body=f'{{"access_token":"t{number}","token_type":"bearer","expires_in":600}}')
        for number in (1, 2, 3)
    ]
    async with (
        ScriptedUpstream(steps(*tokens)) as endpoint,
        ScriptedUpstream(steps(*each)) as receiver,
        HTTPClient(resolve=guarded_resolve(HERE)) as client,
    ):
        source = TokenSource(
            "mailer", ClientCredentials(f"{endpoint.url}/token", "bt", "hush"), client
        )
        identity = Identity(source, Audience.of([receiver.url + audience]))
        channel = HTTPChannel(client, identity=identity)
        channels = Channels({"http": channel}, schedule=RetrySchedule(), random=lambda: 0.0)
        yield Post(receiver, client, channels), endpoint


async def test_identity_is_said_to_its_audience(autojump_clock: MockClock) -> None:
    """To nobody else, who gets the notification all the same."""
    async with as_somebody("/inbox", Answer()) as (there, _):
        for path in ("/inbox", "/inbox/a", "/inboxes", "/inbox/../x"):
            assert (await there.sent(path))[0] == "delivered"
        said = [request.header("authorization") for request in there.requests]
    assert said == ["Bearer t1", "Bearer t1", None, None]


async def test_refused_token_is_replaced_at_once(autojump_clock: MockClock) -> None:
    """Once: what refuses the new one too means it."""
    async with as_somebody("", Answer(status=401), Answer()) as (there, _):
        assert (await there.sent())[:2] == ("delivered", 200)
        said = [request.header("authorization") for request in there.requests]
        assert said == ["Bearer t1", "Bearer t2"]
    async with as_somebody("", Answer(status=401)) as (there, endpoint):
        for _ in range(10):
            assert (await there.sent())[:2] == ("dead", 401)
        assert endpoint.seen().count == 2


async def test_notification_without_a_token_is_kept(autojump_clock: MockClock) -> None:
    """Nothing goes out as nobody; and the receiver is not blamed."""
    async with as_somebody("", Answer()) as (there, endpoint):
        endpoint.play(steps(Answer(status=401)))
        for _ in range(10):
            outcome, status, error = await there.sent()
            assert (outcome, status) == ("retry", None)
            assert error is not None
            assert "no token" in error
        assert there.requests == ()
        assert there.channels.statistics()["http"].opened == 0
