"""The memory soak: very many requests of every kind, and the server's resident memory meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import attrs
import trio

from bench.client import ConnectionLost, ConnectionPool, build_request
from bench.machine import resident_bytes
from bench.server import Server
from bench.soak.checks import MemorySample
from bench.soak.traffic import MEMORY_MIX, Kind, draw_kinds

CONNECTIONS = 16
RENEW_AFTER = 200
"""Requests after which a connection is exchanged, so that making and losing them is soaked too."""
REQUEST_SECONDS = 15.0

OnProgress = Callable[[int], None]


@attrs.frozen
class MemoryResult:
    """What the soak saw: memory over time, answers by kind and status, and those not allowed."""

    samples: tuple[MemorySample, ...]
    answers: Counter[tuple[str, int]]
    wrong: Counter[tuple[str, int]]


class MemorySoak:
    """Closed-loop traffic on some connections, with memory sampled every so many answers."""

    def __init__(
        self, server: Server, *, requests: int, every: int, seed: str, on_progress: OnProgress
    ) -> None:
        self._server = server
        self._left = requests
        self._every = every
        self._kinds: Iterator[Kind] = draw_kinds(seed)
        self._on_progress = on_progress
        self._bytes = {kind: self._build(kind) for kind in MEMORY_MIX}
        self._answered = 0
        self._samples: list[MemorySample] = []
        self._answers: Counter[tuple[str, int]] = Counter()
        self._wrong: Counter[tuple[str, int]] = Counter()

    async def run(self) -> MemoryResult:
        """Send everything.

        Raises:
            ExceptionGroup: of ``ProcessLookupError``: the server has ended.
        """
        async with trio.open_nursery() as nursery:
            for _ in range(CONNECTIONS):
                nursery.start_soon(self._keep_asking)
        return MemoryResult(tuple(self._samples), self._answers, self._wrong)

    def _build(self, kind: Kind) -> bytes:
        headers = {} if kind.tier is None else {"X-Tenant-Tier": kind.tier}
        return build_request(self._server.address, kind.path, headers)

    async def _keep_asking(self) -> None:
        while self._left > 0:
            pool = ConnectionPool(self._server.address)
            try:
                for _ in range(RENEW_AFTER):
                    if self._left <= 0:
                        return
                    self._left -= 1
                    await self._ask(pool, next(self._kinds))
            finally:
                pool.close()

    async def _ask(self, pool: ConnectionPool, kind: Kind) -> None:
        status = 0
        with trio.move_on_after(REQUEST_SECONDS):
            try:
                status = (await pool.request(self._bytes[kind])).status
            except (ConnectionLost, OSError):
                await trio.sleep(0.05)  # recorded below as status 0; do not storm a dying server
        self._record(kind, status)

    def _record(self, kind: Kind, status: int) -> None:
        self._answers[kind.name, status] += 1
        if status not in kind.statuses:
            self._wrong[kind.name, status] += 1
        self._answered += 1
        if self._answered % self._every == 0:
            memory = resident_bytes(self._server.pid)
            self._samples.append(MemorySample(self._answered, memory))
            self._on_progress(self._answered)
