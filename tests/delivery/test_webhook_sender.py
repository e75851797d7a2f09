"""One try at one webhook: what is sent, and what is made of the answer."""

from __future__ import annotations

import hashlib
import json
import time
from email.utils import formatdate
from typing import Any
from uuid import UUID

import pytest
import trio
from standardwebhooks import Webhook, WebhookVerificationError
from trio.testing import MockClock

from bulkhead_trio.database.webhook_records import EndpointChange
from bulkhead_trio.delivery._schedule_rules import DEFAULT_WAITS, RetrySchedule
from bulkhead_trio.delivery._signing_rules import make_secret
from bulkhead_trio.delivery.sealing import Sealer
from bulkhead_trio.testing.upstream import Answer, Rule, Script, always

from ._webhooks import EVENT_ID, MOMENT, SEALER, SECRET, open_post, sealed

MIRROR = always(Answer(content="mirror"))
OLD_SECRET = make_secret(b"o" * 32)
DAY = 86_400.0

BODY = (
    b'{"type":"order.completed","timestamp":"2026-02-11T12:00:00.123Z","data":{"orderId": "o-1"}}'
)


# --- what is sent --------------------------------------------------------------------------------


async def test_delivery_is_verified_by_the_public_package(autojump_clock: MockClock) -> None:
    """A receiver needs the secret and a library that is not ours."""
    async with open_post(MIRROR) as post:
        done = await post.send()
        assert done.outcome == "delivered"
        assert done.attempt is not None
        assert done.attempt.response == BODY.decode()
        event = Webhook(SECRET.text).verify(done.attempt.response, post.headers())
        assert event["data"] == {"orderId": "o-1"}


async def test_request_is_a_post_of_json_with_the_events_id(autojump_clock: MockClock) -> None:
    """To the URL as it is, saying who asks."""
    async with open_post() as post:
        before = int(time.time())
        await post.send()
        (seen,) = post.endpoint.seen().requests
        assert (seen.method, seen.target) == ("POST", "/hook?a=1")
        assert seen.digest == hashlib.sha256(BODY).hexdigest()
        headers = post.headers()
        assert headers["content-type"] == "application/json"
        assert headers["content-length"] == str(len(BODY))
        assert headers["user-agent"].startswith("bulkhead-trio")
        assert headers["webhook-id"] == EVENT_ID
        assert before <= int(headers["webhook-timestamp"]) <= int(time.time())


async def test_every_try_sends_the_same_bytes_and_id_at_its_own_time(
    autojump_clock: MockClock,
) -> None:
    """What a receiver tells messages apart by is the event's; the timestamp is the try's."""
    async with open_post(always(Answer(status=500))) as post:
        await post.send(attempts=0)
        post.wall.ahead = 5 * 3600
        await post.send(attempts=3)
        first, second = post.endpoint.seen().requests
        assert first.digest == second.digest == hashlib.sha256(BODY).hexdigest()
        assert first.header("webhook-id") == second.header("webhook-id") == EVENT_ID
        times = [int(each.header("webhook-timestamp") or "") for each in (first, second)]
        assert times[1] - times[0] == pytest.approx(5 * 3600, abs=2)
        assert first.header("webhook-signature") != second.header("webhook-signature")


async def test_old_secret_signs_along_during_its_grace_time(autojump_clock: MockClock) -> None:
    """The newest first; a receiver with either secret is content until the old one's time is up."""
    async with open_post(MIRROR) as post:
        secrets = (sealed(), sealed(OLD_SECRET, expires_at=time.time() + 3600))
        await post.send(secrets=secrets)
        headers = post.headers()
        first, _ = headers["webhook-signature"].split(" ")
        for secret in (SECRET, OLD_SECRET):
            Webhook(secret.text).verify(BODY, headers)
        Webhook(SECRET.text).verify(BODY, {**headers, "webhook-signature": first})

        post.wall.ahead = 3601
        await post.send(secrets=secrets)
        headers = post.headers()
        assert " " not in headers["webhook-signature"]
        post.wall.ahead = 0
        await post.send(secrets=(sealed(), sealed(OLD_SECRET, expires_at=time.time() - 1)))
        Webhook(SECRET.text).verify(BODY, post.headers())
        with pytest.raises(WebhookVerificationError):
            Webhook(OLD_SECRET.text).verify(BODY, post.headers())


async def test_large_payload_goes_out_whole(autojump_clock: MockClock) -> None:
    """Larger than what goes out in one piece with its head."""
    payload = json.dumps({"text": "x" * 1_000_000}).encode()
    async with open_post() as post:
        assert (await post.send(payload=payload)).outcome == "delivered"
        (seen,) = post.endpoint.seen().requests
        assert seen.length == len(BODY) - len(b'{"orderId": "o-1"}') + len(payload)


# --- what is made of the answer ------------------------------------------------------------------


async def test_success_tells_of_its_attempt(autojump_clock: MockClock) -> None:
    """Its number, when, how long, the status, and the answer."""
    answer = Answer(status=202, body="thank you", head_seconds=1.5)
    async with open_post(always(answer)) as post:
        done = await post.send(attempts=2)
        assert (done.outcome, done.attempts_before) == ("delivered", 2)
        assert done.retry_after_seconds is None
        assert done.endpoint is None
        attempt = done.attempt
        assert attempt is not None
        assert (attempt.number, attempt.status, attempt.error) == (3, 202, None)
        assert attempt.response == "thank you"
        assert attempt.duration_ms == pytest.approx(1500, abs=1)
        assert attempt.at.timestamp() == pytest.approx(time.time(), abs=5)


@pytest.mark.parametrize(
    ("status", "outcome", "change"),
    [
        (200, "delivered", None),
        (204, "delivered", None),
        (299, "delivered", None),
        (301, "retry", EndpointChange(is_failing=True)),
        (304, "retry", EndpointChange(is_failing=True)),
        (400, "dead", EndpointChange(is_failing=True)),
        (404, "dead", EndpointChange(is_failing=True)),
        (408, "retry", EndpointChange(is_failing=True)),
        (409, "retry", EndpointChange(is_failing=True)),
        (410, "dead", EndpointChange(is_failing=True, disable_reason="gone")),
        (425, "retry", EndpointChange(is_failing=True)),
        (429, "retry", EndpointChange(is_failing=True, slow_seconds=5)),
        (500, "retry", EndpointChange(is_failing=True)),
        (502, "retry", EndpointChange(is_failing=True, slow_seconds=5)),
        (503, "retry", EndpointChange(is_failing=True)),
        (504, "retry", EndpointChange(is_failing=True, slow_seconds=5)),
    ],
)
async def test_status_decides(
    autojump_clock: MockClock, status: int, outcome: str, change: EndpointChange | None
) -> None:
    """As the table of verdicts has it."""
    async with open_post(always(Answer(status=status))) as post:
        done = await post.send()
        assert (done.outcome, done.endpoint) == (outcome, change)
        assert done.retry_after_seconds == (5.0 if outcome == "retry" else None)
        assert done.attempt is not None
        assert (done.attempt.status, done.attempt.error) == (status, None)


async def test_redirect_is_not_followed(autojump_clock: MockClock) -> None:
    """Whoever is asked is whom the tenant has named, and nobody else."""
    redirect = Answer(status=307, headers=(("Location", "/elsewhere"),))
    async with open_post(always(redirect)) as post:
        assert (await post.send()).outcome == "retry"
        assert [each.target for each in post.endpoint.seen().requests] == ["/hook?a=1"]


@pytest.mark.parametrize(
    ("status", "value", "wait", "slow"),
    [
        (503, "120", 120 * 1.05, None),
        (503, "1", 5.0, None),
        (503, "soon", 5.0, None),
        (503, "9999999999", DAY * 1.05, None),
        (429, "120", 120 * 1.05, 120.0),
        (429, "9999999999", DAY * 1.05, 3600.0),
        (302, "120", 120 * 1.05, None),
    ],
)
async def test_retry_after_is_honoured_within_bounds(
    autojump_clock: MockClock, status: int, value: str, wait: float, slow: float | None
) -> None:
    """At least the schedule's own wait, at most a day; 429 holds back the others too."""
    answer = Answer(status=status, headers=(("Retry-After", value),))
    async with open_post(always(answer)) as post:
        done = await post.send()
        assert done.retry_after_seconds == pytest.approx(wait)
        assert done.endpoint == EndpointChange(is_failing=True, slow_seconds=slow)


async def test_retry_after_as_a_date_is_compared_with_the_wall_clock(
    autojump_clock: MockClock,
) -> None:
    """Not with Trio's, which knows no dates."""
    date = formatdate(time.time() + 600, usegmt=True)
    async with open_post(always(Answer(status=503, headers=(("Retry-After", date),)))) as post:
        done = await post.send()
        assert done.retry_after_seconds == pytest.approx(600 * 1.05, abs=3)


async def test_whole_schedule_is_gone_through_in_its_time(autojump_clock: MockClock) -> None:
    """Ten tries over three days and a bit, then it is dead; the last says so and asks for none."""
    async with open_post(always(Answer(status=503))) as post:
        began, outcomes, starts = trio.current_time(), [], []
        for attempts in range(10):
            starts.append(trio.current_time() - began)
            done = await post.send(attempts=attempts)
            outcomes.append(done.outcome)
            await trio.sleep(done.retry_after_seconds or 0)
        assert outcomes == ["retry"] * 9 + ["dead"]
        assert done.retry_after_seconds is None
        expected = [sum(DEFAULT_WAITS[:number]) for number in range(10)]
        assert starts == pytest.approx(expected, abs=1)
        assert len({each.header("webhook-id") for each in post.endpoint.seen().requests}) == 1


async def test_schedule_without_waits_gives_up_at_once(autojump_clock: MockClock) -> None:
    """And says what came of its one try."""
    async with open_post(always(Answer(status=500)), schedule=RetrySchedule(())) as post:
        done = await post.send()
        assert (done.outcome, done.retry_after_seconds) == ("dead", None)
        assert done.attempt is not None
        assert done.attempt.status == 500


# --- the endpoint --------------------------------------------------------------------------------


async def test_success_ends_the_endpoints_failing(autojump_clock: MockClock) -> None:
    """What is written then is that, and nothing where it was good before."""
    async with open_post() as post:
        done = await post.send(failing_since=MOMENT)
        assert done.endpoint == EndpointChange(is_failing=False)


async def test_endpoint_that_has_failed_for_five_days_is_disabled(
    autojump_clock: MockClock,
) -> None:
    """By a failure, and by nothing else."""
    async with open_post(
        Script(rules=(Rule(steps="500,200,500", then="last"),)),
    ) as post:
        post.wall.ahead = MOMENT.timestamp() - time.time() + 5 * DAY - 60
        assert (await post.send(failing_since=MOMENT)).endpoint is None
        post.wall.ahead += 61
        done = await post.send(failing_since=MOMENT)
        assert done.endpoint == EndpointChange(is_failing=False)
        done = await post.send(failing_since=MOMENT)
        assert done.endpoint == EndpointChange(is_failing=True, disable_reason="failing")
        assert done.outcome == "retry"


# --- secrets that cannot be read -----------------------------------------------------------------


async def test_nothing_is_sent_unsigned(autojump_clock: MockClock) -> None:
    """Under another SECRET_KEY: tried again later, and the endpoint is not blamed."""
    other = Sealer("quite another secret key", purpose="webhook secrets")
    async with open_post(sealer=other) as post:
        done = await post.send()
        assert done.outcome == "retry"
        assert done.retry_after_seconds == 5.0
        assert done.endpoint is None
        assert done.attempt is not None
        assert "secret" in (done.attempt.error or "")
        assert not post.endpoint.seen().requests


async def test_old_secret_that_cannot_be_read_does_not_stop_the_new_one(
    autojump_clock: MockClock,
) -> None:
    """After SECRET_KEY was changed and the endpoint has a new secret, everything goes on."""
    other = Sealer("quite another secret key", purpose="webhook secrets")
    unreadable = sealed(OLD_SECRET, expires_at=time.time() + 3600, sealer=other)
    async with open_post(MIRROR) as post:
        assert (await post.send(secrets=(sealed(), unreadable))).outcome == "delivered"
        assert " " not in post.headers()["webhook-signature"]
        assert (await post.send(secrets=(unreadable, sealed()))).outcome == "retry"


@pytest.mark.parametrize("secrets", [(), (sealed(expires_at=1.0),)])
async def test_endpoint_without_a_secret_gets_nothing(
    autojump_clock: MockClock, secrets: tuple[Any, ...]
) -> None:
    """There is nothing to sign with; it is told, not raised."""
    async with open_post() as post:
        assert (await post.send(secrets=secrets)).outcome == "retry"
        assert not post.endpoint.seen().requests


async def test_secret_of_another_endpoint_is_none(autojump_clock: MockClock) -> None:
    """Bound to its row: what somebody has copied does not sign."""
    copied = sealed()
    async with open_post() as post:
        done = await post.send(queue_id=UUID(int=8), secrets=(copied,))
        assert done.outcome == "retry"
        assert not post.endpoint.seen().requests
        assert SEALER.unseal(copied.sealed, bound_to=UUID(int=7)) == SECRET.key
