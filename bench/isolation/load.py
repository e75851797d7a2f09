"""A load generator: a process of its own, so that its work is not mistaken for the server's.

``python -m bench.isolation.load SPEC`` with SPEC one of the specifications of
`bench.isolation.messages` as JSON. It says `Ready`, reads the start's instant (seconds of the
monotonic clock, which all processes of a machine share), and ends with `Finished`.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable

import msgspec
import trio

from bench.client import Address, ConnectionLost, ConnectionPool, build_request
from bench.isolation.messages import (
    Finished,
    FloodSpec,
    Message,
    Progress,
    Ready,
    Recording,
    Sample,
    Spec,
    SteadySpec,
)
from bench.isolation.plan import due_times

PROGRESS_SECONDS = 0.5
TIMER_SECONDS = 0.0015
"""How early to wake and watch the clock instead: epoll counts whole milliseconds, rounded up."""
SPARE_CONNECTIONS = 16
"""Idle connections that a steady tier starts with: at 50 requests a second, 300 ms' worth."""
RECONNECT_SECONDS = 0.05
"""How long a flooding connection that broke waits before it comes back."""

Report = Callable[[Progress], None]


async def sleep_precisely_until(instant: float) -> None:
    """Return at ``instant`` of Trio's clock, more exactly than its timer can."""
    await trio.sleep_until(instant - TIMER_SECONDS)
    while trio.current_time() < instant:
        await trio.lowlevel.checkpoint()


async def ask(pool: ConnectionPool, request: bytes, timeout: float) -> tuple[int, str]:
    """Send ``request`` and return the answer's status and code; 0 and a reason if none came."""
    with trio.move_on_after(timeout):
        try:
            answer = await pool.request(request)
        except ConnectionLost:
            return 0, "connection_lost"
        except OSError:
            return 0, "connection_failed"
        return answer.status, answer.code
    return 0, "timed_out"


class SteadyLoad:
    """One tier's open-model traffic: sent when due, whatever became of the ones before."""

    def __init__(self, spec: SteadySpec, tier: str) -> None:
        self._address = Address(spec.host, spec.port)
        self._request = build_request(self._address, "/api/data", {"X-Tenant-Tier": tier})
        self._due = due_times(spec.rate, spec.seconds, seed=f"{spec.seed}/{tier}")
        self._timeout = spec.timeout
        self._pool = ConnectionPool(self._address)
        self.recording = Recording(tier, [])

    async def run(self, start: float) -> None:
        """Send every request; return when the last one is answered or given up.

        Raises:
            OSError: the server does not listen.
        """
        try:
            await self._pool.fill(SPARE_CONNECTIONS)
            async with trio.open_nursery() as nursery:
                for due in self._due:
                    await sleep_precisely_until(start + due)
                    nursery.start_soon(self._send, start, due)
        finally:
            self._pool.close()

    async def _send(self, start: float, due: float) -> None:
        lag = trio.current_time() - start - due
        status, code = await ask(self._pool, self._request, self._timeout)
        latency = trio.current_time() - start - due
        self.recording.samples.append(Sample(due, lag, latency, status, code))


class FloodLoad:
    """Closed-loop traffic: each connection asks again as soon as it has been answered."""

    def __init__(self, spec: FloodSpec) -> None:
        self._spec = spec
        self._address = Address(spec.host, spec.port)
        self._request = build_request(self._address, spec.path, {"X-Tenant-Tier": spec.tier})
        self.recording = Recording(spec.tier, [])

    async def run(self, start: float) -> None:
        """Flood for the specified time; what is in flight then is dropped."""
        await trio.sleep_until(start + self._spec.after)
        with trio.move_on_at(start + self._spec.after + self._spec.seconds):
            async with trio.open_nursery() as nursery:
                for _ in range(self._spec.connections):
                    nursery.start_soon(self._keep_asking, start)

    async def _keep_asking(self, start: float) -> None:
        pool = ConnectionPool(self._address)
        try:
            while True:
                begun = trio.current_time()
                status, code = await ask(pool, self._request, self._spec.timeout)
                latency = trio.current_time() - begun
                self.recording.samples.append(Sample(begun - start, 0.0, latency, status, code))
                if status == 0:
                    await trio.sleep(RECONNECT_SECONDS)
        finally:
            pool.close()


Load = SteadyLoad | FloodLoad


def build_loads(spec: Spec) -> list[Load]:
    """What ``spec`` asks for: one load a tier."""
    if isinstance(spec, FloodSpec):
        return [FloodLoad(spec)]
    return [SteadyLoad(spec, tier) for tier in spec.tiers]


async def run_loads(loads: list[Load], start_at: float, report: Report) -> None:
    """Run all ``loads`` from ``start_at``, seconds of the monotonic clock, to their ends.

    Raises:
        ExceptionGroup: of ``OSError``: the server does not listen.
    """
    start = trio.current_time() + start_at - time.monotonic()
    async with trio.open_nursery() as reporting:
        reporting.start_soon(_report_progress, loads, report)
        async with trio.open_nursery() as nursery:
            for load in loads:
                nursery.start_soon(load.run, start)
        reporting.cancel_scope.cancel()


async def _report_progress(loads: list[Load], report: Report) -> None:
    while True:
        await trio.sleep(PROGRESS_SECONDS)
        report(Progress(sum(len(load.recording.samples) for load in loads)))


def _emit(message: Message) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


def main() -> int:
    """Run the generator that ``sys.argv[1]`` specifies; the exit code."""
    loads = build_loads(msgspec.json.decode(sys.argv[1], type=Spec))
    _emit(Ready())
    instant = sys.stdin.readline()
    if not instant:
        return 1  # whoever started this has gone
    # A collection would be a pause of the generator's own making; a run's garbage is small.
    gc.collect()
    gc.disable()
    used = time.process_time()
    trio.run(run_loads, loads, float(instant), _emit)
    _emit(Finished([load.recording for load in loads], time.process_time() - used))
    return 0


if __name__ == "__main__":
    sys.exit(main())
