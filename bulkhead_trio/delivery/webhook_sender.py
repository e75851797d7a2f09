"""One try at delivering one webhook: signed, sent, judged."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from typing import Final

import attrs
import structlog
import trio

from bulkhead_trio.database._public_id_rules import public_id
from bulkhead_trio.database.delivery_records import AttemptRecord
from bulkhead_trio.database.webhook_records import EndpointChange, SigningSecret
from bulkhead_trio.database.work_records import Finished, Outcome, WebhookWork
from bulkhead_trio.delivery._endpoint_rules import DISABLE_AFTER_SECONDS, change_of, slow_seconds
from bulkhead_trio.delivery._message_rules import MOST_RESPONSE_BYTES, body_of, kept_text
from bulkhead_trio.delivery._schedule_rules import RetrySchedule, read_retry_after
from bulkhead_trio.delivery._signing_rules import WebhookSecret, sign
from bulkhead_trio.delivery._verdict_rules import Failure, Verdict, verdict_of
from bulkhead_trio.delivery.endpoint_breakers import (
    IDLE_SECONDS,
    LEAST_DEFER_SECONDS,
    MOST_ENDPOINTS,
    PROBING_SECONDS,
    BreakersStatistics,
    EndpointBreakers,
)
from bulkhead_trio.delivery.failures import failure_of
from bulkhead_trio.delivery.sealing import Sealer, Unsealable
from bulkhead_trio.errors import CircuitOpen, InvalidRequest, Rejected, UpstreamError
from bulkhead_trio.http.client import Field, HTTPClient, StreamedResponse

TIMEOUT_SECONDS: Final = 15.0
"""For a try, from the first look-up to the last byte: Standard Webhooks says 15 to 30."""

USER_AGENT: Final = "bulkhead-trio-webhooks/1"

SLOW_FAILURE_SECONDS: Final = 1.0
"""A try that fails sooner does not count against its endpoint: it holds up nobody. Ten thousand
deliveries to an address that refuses at once are through their schedule in the schedule's time."""

_log = structlog.get_logger("bulkhead_trio.delivery")


@attrs.frozen
class _Tried:
    """What came of a try: a status, or why there is none."""

    result: int | Failure
    seconds: float = 0.0
    asked: float | None = None
    response: str | None = None

    @property
    def is_down(self) -> bool:
        """Whether the endpoint has failed, and has taken its time for that."""
        return self.verdict.trips and self.seconds >= SLOW_FAILURE_SECONDS

    @property
    def verdict(self) -> Verdict:
        return verdict_of(self.result)

    @property
    def says_nothing(self) -> bool:
        """Whether it says nothing of the endpoint: there is no answer, and not for its fault."""
        return isinstance(self.result, Failure) and not self.verdict.trips


class _Answer:
    """What has come of an answer so far; what comes after its head changes no verdict."""

    __slots__ = ("asked", "is_all", "received", "status")

    def __init__(self) -> None:
        self.status: int | None = None
        self.asked: float | None = None
        self.received = b""
        self.is_all = False


class WebhookSender:
    """Sends webhooks as Standard Webhooks 1.0 says.

    Args:
        client: sends them; it must refuse forbidden addresses (`guarded_resolve`).
        sealer: opens the secrets.
        schedule: when failures are tried again.
        random: gives numbers from 0 up to but not including 1, for jitter.
        timeout: seconds for one try, everything included.
        disable_after: seconds of nothing but failures after which an endpoint is disabled.
        user_agent: what endpoints are told of who asks.
        wall_clock: the time in seconds since 1970: signed, told to people, compared with dates.
        breakers: of the endpoints; by default its own.
    """

    def __init__(
        self,
        client: HTTPClient,
        sealer: Sealer,
        *,
        schedule: RetrySchedule,
        random: Callable[[], float],
        timeout: float = TIMEOUT_SECONDS,
        disable_after: float = DISABLE_AFTER_SECONDS,
        user_agent: str = USER_AGENT,
        wall_clock: Callable[[], float] = time.time,
        breakers: EndpointBreakers | None = None,
    ) -> None:
        self._client = client
        self._sealer = sealer
        self._schedule = schedule
        self._random = random
        self._timeout = timeout
        self._disable_after = disable_after
        self._user_agent = user_agent
        self._wall_clock = wall_clock
        self._breakers = breakers or endpoint_breakers()

    async def send(self, work: WebhookWork) -> Finished:
        """Try to deliver ``work`` once.

        Whatever becomes of it is told, not raised. ``deferred`` is what was not tried, since its
        endpoint is being left alone or there was no connection to be had: it is no attempt. What is
        later than its whole schedule is deferred no more; being left alone is a failed try then, so
        that it comes to an end.
        """
        breaker = self._breakers.get(work.queue_id, work.url)
        at = self._wall_clock()
        try:
            tried = await breaker.call(self._try, work, at)
        except CircuitOpen as refusal:
            if self._is_late(work, at):
                return self._finished(work, at, _Tried(Failure.LEFT_ALONE))
            hold = refusal.retry_after or PROBING_SECONDS
            return self._deferred(work, hold, EndpointChange(is_failing=True, slow_seconds=hold))
        except (Rejected, trio.ClosedResourceError):
            return self._deferred(work, LEAST_DEFER_SECONDS)
        left_alone = breaker.statistics().retry_after if tried.is_down else 0.0
        return self._finished(work, at, tried, left_alone)

    def statistics(self) -> BreakersStatistics:
        """What is known of the endpoints now."""
        return self._breakers.statistics()

    # --- the try ---------------------------------------------------------------------------------

    async def _try(self, work: WebhookWork, at: float) -> _Tried:
        secrets = self._secrets(work, at)
        if not secrets:
            await trio.lowlevel.checkpoint()
            return _Tried(Failure.NO_SECRET)
        began = trio.current_time()
        body = body_of(work.event_type, _written(work.event_created_at), work.payload)
        headers = self._headers(work, secrets, int(at), body)
        answer = _Answer()
        failure = Failure.TIMEOUT  # where nothing is raised, and nothing has come
        try:
            with trio.move_on_after(self._timeout):
                # Its id tells a receiver what it has had before, as it has to be told anyway.
                request = self._client.request(
                    "POST", work.url, headers=headers, content=body, is_idempotent=True
                )
                async with request as response:
                    await self._read(response, answer)
        except InvalidRequest:
            failure = Failure.BAD_URL
        except UpstreamError as error:
            failure = failure_of(error)
        except (Rejected, trio.ClosedResourceError):
            if answer.status is None:
                raise
        seconds = trio.current_time() - began
        if answer.status is None:
            return _Tried(failure, seconds)
        response_text = kept_text(answer.received, is_all=answer.is_all)
        return _Tried(answer.status, seconds, answer.asked, response_text)

    async def _read(self, response: StreamedResponse, answer: _Answer) -> None:
        """Note what comes, up to what is kept of it; the rest is never asked for."""
        answer.status = response.status
        answer.asked = read_retry_after(response.header("retry-after"), now=self._wall_clock())
        while len(answer.received) <= MOST_RESPONSE_BYTES:
            piece = await response.read_piece()
            if not piece:
                answer.is_all = True
                return
            answer.received += piece[: MOST_RESPONSE_BYTES + 1]

    def _secrets(self, work: WebhookWork, at: float) -> list[WebhookSecret]:
        """Those that sign now, the newest first; empty where the newest cannot be read.

        An older one that cannot is left out: it would have signed along for a while, and the newest
        is what receivers should have.
        """
        good = [each for each in work.secrets if not _has_expired(each, at)]
        found: list[WebhookSecret] = []
        for secret in good:
            try:
                key = self._sealer.unseal(secret.sealed, bound_to=work.queue_id)
                found.append(WebhookSecret(key))
            except (Unsealable, ValueError) as error:
                _log.error(
                    "webhook_secret_unreadable", webhook=str(work.queue_id), error=str(error)
                )
                if secret is good[0]:
                    return []
        return found

    def _headers(
        self, work: WebhookWork, secrets: list[WebhookSecret], timestamp: int, body: bytes
    ) -> list[Field]:
        message_id = public_id("evt", work.event_id)
        return [
            ("user-agent", self._user_agent),
            ("content-type", "application/json"),
            ("webhook-id", message_id),
            ("webhook-timestamp", str(timestamp)),
            ("webhook-signature", sign(secrets, message_id, timestamp, body)),
        ]

    # --- what became of it -----------------------------------------------------------------------

    def _is_late(self, work: WebhookWork, at: float) -> bool:
        return self._schedule.is_over(at - work.scheduled_since.timestamp(), self._timeout)

    def _deferred(
        self, work: WebhookWork, seconds: float, endpoint: EndpointChange | None = None
    ) -> Finished:
        wait = max(seconds, LEAST_DEFER_SECONDS) * (1 + self._random() / 10)
        return Finished(
            item_id=work.item_id,
            attempts_before=work.attempts,
            attempt=None,
            outcome="deferred",
            retry_after_seconds=wait,
            endpoint=endpoint,
        )

    def _finished(
        self, work: WebhookWork, at: float, tried: _Tried, left_alone: float = 0.0
    ) -> Finished:
        verdict, result, number = tried.verdict, tried.result, work.attempts + 1
        outcome: Outcome = verdict.outcome
        wait: float | None = None
        if outcome == "retry":
            wait = self._schedule.wait(number, random=self._random(), asked=tried.asked)
            outcome = "dead" if wait is None else "retry"
        failing_since = work.failing_since
        return Finished(
            item_id=work.item_id,
            attempts_before=work.attempts,
            attempt=AttemptRecord(
                number=number,
                at=datetime.datetime.fromtimestamp(at, datetime.UTC),
                status=None if isinstance(result, Failure) else result,
                error=result.value if isinstance(result, Failure) else None,
                duration_ms=round(tried.seconds * 1000, 1),
                response=tried.response,
            ),
            outcome=outcome,
            retry_after_seconds=wait,
            endpoint=change_of(
                verdict,
                failing_since=None if failing_since is None else failing_since.timestamp(),
                now=at + tried.seconds,
                slow=slow_seconds(verdict, asked=tried.asked, wait=wait, left_alone=left_alone),
                disable_after=self._disable_after,
            ),
        )


def endpoint_breakers(
    *, most: int = MOST_ENDPOINTS, idle: float = IDLE_SECONDS
) -> EndpointBreakers:
    """Breakers for a `WebhookSender`; arguments as of `EndpointBreakers`."""
    return EndpointBreakers(
        is_failure=lambda tried: tried.is_down,
        is_ignored=lambda tried: tried.says_nothing,
        most=most,
        idle=idle,
    )


def _has_expired(secret: SigningSecret, at: float) -> bool:
    return secret.expires_at is not None and secret.expires_at.timestamp() <= at


def _written(moment: datetime.datetime) -> str:
    """In UTC with milliseconds, as everything that we answer with: ``2026-02-11T12:00:00.000Z``."""
    text = moment.astimezone(datetime.UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
