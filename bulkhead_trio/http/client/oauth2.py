"""Tokens of OAuth 2.0 for what goes out: the client credentials grant (RFC 6749, section 4.4).

One question at a time, whoever waits for its answer; the answer is used until shortly before its
end, and the next one is asked for while it is still good, so that nobody waits for that.
"""

from __future__ import annotations

import logging
import math
import random as _random
from collections.abc import Callable
from typing import Final, Protocol

import attrs
import trio

from bulkhead_trio.errors import (
    AddressForbidden,
    BulkheadTrioError,
    Rejected,
    UpstreamBodyTooLarge,
    UpstreamError,
    UpstreamProtocolError,
)
from bulkhead_trio.http.client._token_rules import (
    ClientCredentials,
    Token,
    pack,
    read_answer,
    refusal_word,
    request_of,
    retry_after,
    token_of,
    unpack,
)
from bulkhead_trio.http.client._url_rules import Origin, split_url
from bulkhead_trio.http.client.client import HTTPClient
from bulkhead_trio.policies.breaker import BreakerStatistics, CircuitBreaker
from bulkhead_trio.policies.deadline import Timeout
from bulkhead_trio.policies.pipeline import Pipeline
from bulkhead_trio.policies.retry import Retry
from bulkhead_trio.policies.single_flight import SingleFlight

__all__ = [
    "ClientCredentials",
    "TokenCache",
    "TokenRefused",
    "TokenSource",
    "TokenSourceStatistics",
]

TRIES: Final = 4
"""The first one, and three more."""

TRY_SECONDS: Final = 30.0
ALL_SECONDS: Final = 120.0
"""For one try, and for all of them with the waits between."""

BASE_DELAY_SECONDS: Final = 0.5
MOST_DELAY_SECONDS: Final = 10.0

OPEN_SECONDS: Final = (5.0, 10.0, 30.0, 60.0)
"""How long the breaker keeps everybody away from an endpoint that fails; longer each time."""

MOST_ANSWER_BYTES: Final = 64 * 1024

AGAIN_SECONDS: Final = 10.0
"""After the next token was asked for in vain: so long the one at hand is used without asking."""

REFUSED_AGAIN_SECONDS: Final = 30.0
"""A token that was asked for because one was refused is not thrown away before: an upstream that
takes none would otherwise have one asked for with each request."""

FIRST_FAILING_STATUS: Final = 500
_PASSING: Final = (408, 425, 429)
"""Statuses below 500 that another try may change."""

_KEY: Final = "token"

_log = logging.getLogger("bulkhead_trio.http")


class TokenRefused(UpstreamError):
    """A token endpoint gives no token, and would not if it were asked again: a wrong secret.

    Attributes:
        status: what it answered.
    """

    def __init__(self, message: str, *, origin: str, status: int) -> None:
        super().__init__(message, origin=origin)
        self.status = status


class TokenCache(Protocol):
    """What instances share; without it, or while it is away, each asks for its own.

    Both are quick, and raise nothing: what cannot be reached has nothing.
    """

    async def get(self) -> tuple[bytes, float] | None:
        """What was put last, and the seconds that are left of its life."""

    async def put(self, packed: bytes, *, seconds: float) -> None:
        """Leave a token for others, for as long as it lives. It is a secret."""


@attrs.frozen
class TokenSourceStatistics:
    """What a source has at one moment, and has counted.

    Attributes:
        name: of the identity.
        has_token: whether there is one that can be used.
        seconds_left: until there is none; 0 without one.
        obtained: tokens that the endpoint gave.
        shared: tokens that came from another instance.
        failed: times that there was none to be had.
        refused: tokens that an upstream would not take.
        waiting: callers that wait for one.
        breaker: of the endpoint.
    """

    name: str
    has_token: bool
    seconds_left: float
    obtained: int
    shared: int
    failed: int
    refused: int
    waiting: int
    breaker: BreakerStatistics


class TokenSource:
    """Gives a token that is good, and asks for one as seldom as may be.

    While `run` runs, it is the source itself that asks: a caller that is cancelled takes nothing
    from the others, and one with little time does not begin anew what the one before it began.
    Without it whoever comes first asks, and hands over to the next when it has to go.

    Args:
        name: of the identity, for statistics and messages.
        credentials: who asks, and where.
        client: asks.
        cache: what instances share.
        random: gives numbers from 0 up to but not including 1.

    Raises:
        InvalidRequest: the token endpoint's URL is none.
    """

    def __init__(
        self,
        name: str,
        credentials: ClientCredentials,
        client: HTTPClient,
        *,
        cache: TokenCache | None = None,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self.name = name
        self._url = credentials.token_url
        self._origin: Origin = split_url(self._url)[0]
        self._headers, self._body = request_of(credentials)
        self._client = client
        self._cache = cache
        self._random = random
        self._breaker = CircuitBreaker(f"identity {name}", wait_in_open=OPEN_SECONDS)
        self._service = Pipeline(
            Timeout(ALL_SECONDS, name=f"identity {name}"),
            Retry(
                TRIES,
                base_delay=BASE_DELAY_SECONDS,
                max_delay=MOST_DELAY_SECONDS,
                retry_on=_may_pass,
                random=random,
                name=f"identity {name}",
            ),
            self._breaker,
            name=f"identity {name}",
        )
        self._flight = SingleFlight(name=f"identity {name}")
        self._kept: Token | None = None
        self._refused_value = ""
        self._refused_at = -math.inf
        self._not_before = -math.inf
        self._is_running = self._is_asking = False
        self._wanted = trio.Event()
        self._took_off = trio.Event()
        self._obtained = self._shared = self._failed = self._refused = 0

    def __repr__(self) -> str:
        return f"TokenSource({self.name!r})"

    # --- its tokens ------------------------------------------------------------------------------

    def token_nowait(self) -> str | None:
        """The token at hand; ``None`` where there is none, or none that is good any more."""
        kept, now = self._kept, trio.current_time()
        if kept is None or now >= kept.good_until:
            return None
        if now >= kept.refresh_at and now >= self._not_before and not self._is_asking:
            self._wanted.set()
        return kept.value

    async def token(self) -> str:
        """A token that is good for some time yet.

        Raises:
            TokenRefused: the endpoint gives none.
            UpstreamError: it cannot be reached, fails, or answers what is no token.
            UpstreamTimeout: not in time.
            CircuitOpen: it has been failing.
            DeadlineExceeded: all tries together took too long.
        """
        value = self.token_nowait()
        if value is not None:
            await trio.lowlevel.checkpoint()
            return value
        if self._is_running and not self._is_asking:
            self._wanted.set()
            await self._took_off.wait()
        return (await self._flight.call(_KEY, self._obtain)).value

    def refused(self, token: str) -> None:
        """An upstream would not take this token: have another one, unless that was just done.

        Only the token at hand goes: what many requests were sent with is refused many times.
        """
        kept, now = self._kept, trio.current_time()
        if kept is None or kept.value != token or now < self._refused_at + REFUSED_AGAIN_SECONDS:
            return
        self._refused += 1
        self._refused_at, self._refused_value = now, token
        self._kept = None
        _log.warning("identity %s: an upstream has refused its token", self.name)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask for tokens whenever one is wanted, until cancelled.

        Raises:
            RuntimeError: it runs already.
        """
        if self._is_running:
            raise RuntimeError(f"the identity {self.name} runs already")
        self._is_running = True
        try:
            task_status.started()
            while True:
                await self._wanted.wait()
                await self._ask_for_all()
        finally:
            self._is_running = False
            self._let_callers_join()

    def statistics(self) -> TokenSourceStatistics:
        """What the source has now."""
        kept = self._kept
        left = 0.0 if kept is None else max(0.0, kept.good_until - trio.current_time())
        return TokenSourceStatistics(
            name=self.name,
            has_token=left > 0,
            seconds_left=left,
            obtained=self._obtained,
            shared=self._shared,
            failed=self._failed,
            refused=self._refused,
            waiting=self._flight.statistics().waiting,
            breaker=self._breaker.statistics(),
        )

    # --- asking ----------------------------------------------------------------------------------

    async def _ask_for_all(self) -> None:
        """Ask in the place of whoever waits, or will."""
        self._wanted = trio.Event()
        self._is_asking = True
        try:
            # Whoever waits for this goes on after the next line but one has begun the flight.
            self._let_callers_join()
            await self._flight.call(_KEY, self._obtain)
        except Rejected:
            self._not_before = trio.current_time() + AGAIN_SECONDS  # nobody was asked: no news
        except Exception as error:  # noqa: BLE001  told to whoever waits; it must not end the source
            # With a token at hand nobody waits, and that one is used on.
            self._not_before = trio.current_time() + AGAIN_SECONDS
            said = error.message if isinstance(error, BulkheadTrioError) else type(error).__name__
            _log.warning("identity %s: there is no new token: %s", self.name, said)
        finally:
            self._is_asking = False

    def _let_callers_join(self) -> None:
        self._took_off.set()
        self._took_off = trio.Event()

    async def _obtain(self) -> Token:
        """The next token: another instance's, or the endpoint's."""
        kept = self._kept
        if kept is not None and trio.current_time() < kept.refresh_at:
            await trio.lowlevel.checkpoint()
            return kept
        shared = await self._look()
        if shared is not None and trio.current_time() < shared.refresh_at:
            return self._keep_shared(shared)
        try:
            token = await self._service.call(self._ask)
        except Exception:
            self._failed += 1
            if shared is None or (kept is not None and kept.good_until >= shared.good_until):
                raise
            return self._keep_shared(shared)  # about to end, and better than none
        self._obtained += 1
        self._kept = token
        if self._cache is not None:
            left = token.ends_at - trio.current_time()
            await self._cache.put(pack(token), seconds=left)
        return token

    def _keep_shared(self, token: Token) -> Token:
        self._shared += 1
        self._kept = token
        return token

    async def _look(self) -> Token | None:
        """What another instance has left, as long as it is good, and was not refused here."""
        if self._cache is None:
            return None
        # Read before asking: what is left of its life is less by the time that the answer is here.
        now = trio.current_time()
        found = await self._cache.get()
        if found is None:
            return None
        token = unpack(found[0], seconds_left=found[1], now=now, random=self._random())
        if token is None or token.value == self._refused_value:
            return None
        return token if trio.current_time() < token.good_until else None

    async def _ask(self) -> Token:
        """Ask the endpoint once."""
        asked_at = trio.current_time()
        response = await self._client.post(
            self._url,
            headers=self._headers,
            content=self._body,
            timeout=TRY_SECONDS,
            max_bytes=MOST_ANSWER_BYTES,
        )
        if response.status != 200:
            raise self._refusal(response.status, response.content, response.header("retry-after"))
        try:
            value, life = read_answer(response.content)
        except ValueError as error:
            raise UpstreamProtocolError(
                f"the answer of the token endpoint of {self.name} is of no use: {error}",
                origin=str(self._origin),
            ) from None
        return token_of(value, life, ends_at=asked_at + life, random=self._random())

    def _refusal(self, status: int, content: bytes, asks_to_wait: str | None) -> UpstreamError:
        word = refusal_word(content)
        message = f"the token endpoint of {self.name} answered {status}{word and f' ({word})'}"
        if status < FIRST_FAILING_STATUS and status not in _PASSING:
            return TokenRefused(message, origin=str(self._origin), status=status)
        error = UpstreamError(message, origin=str(self._origin))
        error.retry_after = retry_after(asks_to_wait)
        return error


def _may_pass(error: Exception) -> bool:
    """Whether another try may have a token."""
    would_come_again = TokenRefused | AddressForbidden | UpstreamBodyTooLarge
    return isinstance(error, UpstreamError) and not isinstance(error, would_come_again)
