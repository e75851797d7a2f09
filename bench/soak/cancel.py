"""The cancellation soak: clients that go away at every point, and what is left of them after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import attrs
import trio

from bench.client import Connection, ConnectionLost, ConnectionPool, build_request
from bench.database import Database
from bench.server import Server
from bench.soak.checks import capacity, restless
from bench.soak.traffic import Drop, Request, draw_requests

CLIENTS = 80
"""More than free's 30 places for running and waiting, and than pro's 20 connections."""
REQUEST_SECONDS = 20.0
REST_SECONDS = 3.0
"""How long the server may take to be at rest. Cancelling takes milliseconds; this is less than the
pool's patience with a connection that it cannot clean, so one that it must give up is seen."""
POLL_SECONDS = 0.1
FULL_HOUSE_QUERY_SECONDS = 0.5
"""Long enough for all requests of a full house to be there before the first has gone."""
ANSWER_BYTES = 10

OnProgress = Callable[[int], None]


@attrs.frozen
class CancelResult:
    """What the soak saw.

    Attributes:
        outcomes: how many requests of each kind met what: ``("pro, amid the head", "dropped")``.
        failures: what should not be; best: none.
        rest_seconds: how long it took until everything was at rest; ``None``: never.
    """

    outcomes: Counter[tuple[str, str]]
    failures: tuple[str, ...]
    rest_seconds: float | None


class CancelSoak:
    """Requests, of which a third are abandoned, and the checks that nothing is left of them."""

    def __init__(
        self,
        server: Server,
        database: Database,
        *,
        requests: int,
        seed: str,
        on_progress: OnProgress,
    ) -> None:
        self._server = server
        self._database = database
        self._requests = draw_requests(requests, seed)
        self._on_progress = on_progress
        self._done = 0
        self._outcomes: Counter[tuple[str, str]] = Counter()

    async def run(self) -> CancelResult:
        """Send everything, then look.

        Raises:
            ServerFailed: the server does not say how it is.
            psycopg.Error: the database does not.
        """
        async with trio.open_nursery() as nursery:
            for _ in range(CLIENTS):
                nursery.start_soon(self._client)
        failures = self._wrong_answers()
        rest_seconds, left = await self._wait_for_rest()
        failures += left
        failures += await self._fill_every_tier()
        _, left = await self._wait_for_rest()
        failures += [f"after the full house: {text}" for text in left]
        return CancelResult(self._outcomes, tuple(failures), rest_seconds)

    async def _client(self) -> None:
        pool = ConnectionPool(self._server.address)
        try:
            while self._requests:
                request = self._requests.pop()
                outcome = await self._send(pool, request)
                point = request.drop.value if request.drop else "answered"
                self._outcomes[f"{request.tier}, {point}", outcome] += 1
                self._done += 1
                self._on_progress(self._done)
        finally:
            pool.close()

    async def _send(self, pool: ConnectionPool, request: Request) -> str:
        raw = self._build(request.tier)
        with trio.move_on_after(REQUEST_SECONDS):
            try:
                if request.drop is not None:
                    await self._send_and_leave(raw, request)
                    return "dropped"
                answer = await pool.request(raw)
            except (ConnectionLost, OSError):
                return "connection lost"
            return f"{answer.status} {answer.code}".strip()
        return "no answer"

    async def _send_and_leave(self, raw: bytes, request: Request) -> None:
        connection = await Connection.open(self._server.address)
        try:
            if request.drop is Drop.HEAD:
                # Not the last byte: without it the head is not complete.
                raw = raw[: max(1, int(len(raw) * request.head_share) - 1)]
            await connection.send(raw)
            if request.drop is Drop.ANSWER:
                await connection.receive(ANSWER_BYTES)
            else:
                await trio.sleep(request.delay)
        finally:
            connection.close()

    def _build(self, tier: str) -> bytes:
        return build_request(self._server.address, "/api/data", {"X-Tenant-Tier": tier})

    def _wrong_answers(self) -> list[str]:
        """Whoever stayed must have been served, or refused because its tier was full."""
        allowed = {"dropped", "200", "503 bulkhead_full"}
        return [
            f"{count} x {kind}: {outcome}"
            for (kind, outcome), count in self._outcomes.items()
            if outcome not in allowed
        ]

    async def _wait_for_rest(self) -> tuple[float | None, list[str]]:
        """The seconds until the server and PostgreSQL are at rest; or ``None``, and what is not."""
        began = trio.current_time()
        while True:
            left = restless(await self._server.bulkheads())
            queries = await self._database.running_queries()
            if queries:
                left.append(f"PostgreSQL still runs {queries} queries of the server")
            passed = trio.current_time() - began
            if not left:
                return passed, []
            if passed > REST_SECONDS:
                return None, left
            await trio.sleep(POLL_SECONDS)

    async def _fill_every_tier(self) -> list[str]:
        """A tier takes as many requests at once as ever, and answers them, or a permit is lost."""
        bulkheads = await self._server.bulkheads()
        await self._database.set_delays(dict.fromkeys(bulkheads, FULL_HOUSE_QUERY_SECONDS))
        failures: list[str] = []
        for tier, state in bulkheads.items():
            outcomes = await self._ask_at_once(tier, capacity(state))
            if set(outcomes) != {"200"}:
                failures.append(f"a full house of {tier} was answered {dict(outcomes)}")
        return failures

    async def _ask_at_once(self, tier: str, count: int) -> Counter[str]:
        outcomes: Counter[str] = Counter()

        async def ask() -> None:
            pool = ConnectionPool(self._server.address)
            try:
                outcomes[await self._send(pool, Request(tier))] += 1
            finally:
                pool.close()

        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(ask)
        return outcomes
