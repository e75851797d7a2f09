"""The channel ``http``: a notification is posted to the URL that it is for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import attrs
import msgspec
import trio

from bulkhead_trio.database._public_id_rules import public_id
from bulkhead_trio.database.work_records import NotificationWork
from bulkhead_trio.delivery._message_rules import MOST_RESPONSE_BYTES, kept_text
from bulkhead_trio.delivery._schedule_rules import read_retry_after
from bulkhead_trio.delivery._verdict_rules import Failure, Verdict, verdict_of
from bulkhead_trio.delivery.channels.channel import TRY_SECONDS, BreakerKey, Tried
from bulkhead_trio.delivery.failures import failure_of
from bulkhead_trio.errors import InvalidRequest, UpstreamError
from bulkhead_trio.http.client import Field, HTTPClient
from bulkhead_trio.http.client._url_rules import split_url
from bulkhead_trio.http.client.identity import Identity, NoToken

USER_AGENT: Final = "bulkhead-trio-notifications/1"
UNAUTHORIZED: Final = 401

BODY_SECONDS: Final = 5.0
"""What the beginning of an answer's body gets to come; it is for people only."""

SPARE_SECONDS: Final = 0.1

NO_TOKEN: Final = "there is no token for the identity that notifications go out with"  # noqa: S105


class HTTPChannel:
    """Posts notifications as JSON: ``{"id","to","subject","body"}``.

    Every try of a notification says the same ``Idempotency-Key``, its id.

    Args:
        client: posts; it must refuse forbidden addresses (`guarded_resolve`).
        identity: as whom, for URLs that may see its token; all others are sent none.
        wall_clock: the time in seconds since 1970, which dates in answers are compared with.
    """

    is_shared = False  # each tenant has its own

    def __init__(
        self,
        client: HTTPClient,
        *,
        identity: Identity | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._identity = identity
        self._wall_clock = wall_clock

    def breaker_key(self, work: NotificationWork) -> BreakerKey:
        """One for each tenant and origin: nobody's dead server is everybody's."""
        try:
            return work.tenant_id, str(split_url(work.recipient)[0])
        except InvalidRequest:
            return work.tenant_id, ""

    async def deliver(self, work: NotificationWork) -> Tried:
        """Try once; see `Channel.deliver`."""
        identity, url = self._identity, work.recipient
        try:
            with trio.move_on_after(TRY_SECONDS):
                if identity is None or not identity.covers(url):
                    return _judged(await self._post(work, None))
                authorization = await identity.authorization(url)
                answer = await self._post(work, authorization)
                if answer.status != UNAUTHORIZED:
                    return _judged(answer)
                identity.refused(authorization)
                another = await identity.authorization(url)
                if another == authorization:  # it was new already; nothing else is to be had
                    return _judged(answer)
                return _judged(await self._post(work, another))
        except NoToken:
            return Tried("retry", error=NO_TOKEN, says_nothing=True)
        except InvalidRequest:
            return _failed(Failure.BAD_URL)
        except UpstreamError as error:
            return _failed(failure_of(error))
        return _failed(Failure.TIMEOUT)

    async def _post(self, work: NotificationWork, authorization: bytes | None) -> _Answer:
        notification_id = public_id("ntf", work.item_id)
        content = msgspec.json.encode(
            {
                "id": notification_id,
                "to": work.recipient,
                "subject": work.subject,
                "body": work.body,
            }
        )
        headers: list[Field] = [
            ("user-agent", USER_AGENT),
            ("content-type", "application/json"),
            ("idempotency-key", notification_id),
        ]
        if authorization is not None:
            headers.append((b"authorization", authorization))
        request = self._client.request(
            "POST", work.recipient, headers=headers, content=content, is_idempotent=True
        )
        async with request as response:
            asked = read_retry_after(response.header("retry-after"), now=self._wall_clock())
            received, is_all = b"", False
            # What comes after the head changes no verdict: a body that breaks off is as it is.
            try:
                with trio.move_on_at(_body_deadline()):
                    while len(received) <= MOST_RESPONSE_BYTES:
                        piece = await response.read_piece()
                        if not piece:
                            is_all = True
                            break
                        received += piece[: MOST_RESPONSE_BYTES + 1]
            except UpstreamError:
                is_all = False
            return _Answer(response.status, asked, kept_text(received, is_all=is_all))


@attrs.frozen
class _Answer:
    status: int
    asked: float | None
    response: str


def _body_deadline() -> float:
    """A little before the try's own: what was answered is known, and must not be lost to that."""
    own = trio.current_time() + BODY_SECONDS
    return min(own, trio.current_effective_deadline() - SPARE_SECONDS)


def _judged(answer: _Answer) -> Tried:
    verdict = verdict_of(answer.status)
    is_good = verdict.outcome == "delivered"
    return Tried(
        verdict.outcome,
        status=answer.status,
        error=None if is_good else f"it was answered {answer.status}",
        response=answer.response,
        asked=answer.asked,
        trips=verdict.trips,
        is_worth_another=_is_worth_another(verdict) and answer.asked is None,
    )


def _failed(failure: Failure) -> Tried:
    verdict = verdict_of(failure)
    return Tried(
        verdict.outcome,
        error=failure.value,
        trips=verdict.trips,
        says_nothing=not verdict.trips,
        is_worth_another=_is_worth_another(verdict),
    )


def _is_worth_another(verdict: Verdict) -> bool:
    """Whether it may pass in a moment; who is overloaded is to be left alone for longer."""
    return verdict.outcome == "retry" and verdict.trips and not verdict.slows
