"""A paced caller as a process: ``python -m bench.gateway.caller SPEC``, a `CallerSpec` in JSON.

It talks as the generators of `bench.isolation` do: `Ready`, the start's instant, `Finished`.
"""

from __future__ import annotations

import gc
import sys
import time

import msgspec
import trio

from bench.client import Address, ConnectionPool, build_request
from bench.isolation.load import SPARE_CONNECTIONS, ask, sleep_precisely_until
from bench.isolation.messages import Finished, Message, Ready, Recording, Sample
from bench.isolation.plan import due_times


class CallerSpec(msgspec.Struct, frozen=True):
    """Ask for ``path`` ``rate`` times a second for ``seconds``, whatever became of those before."""

    host: str
    port: int
    name: str
    path: str
    key: str
    rate: float
    seconds: float
    timeout: float
    seed: str


class Caller:
    """Sends each request when it is due."""

    def __init__(self, spec: CallerSpec) -> None:
        address = Address(spec.host, spec.port)
        self._request = build_request(address, spec.path, {"X-API-Key": spec.key})
        self._due = due_times(spec.rate, spec.seconds, seed=spec.seed)
        self._timeout = spec.timeout
        self._pool = ConnectionPool(address)
        self.recording = Recording(spec.name, [])

    async def run(self, start_at: float) -> None:
        """Send all requests from ``start_at``, seconds of the monotonic clock; return when the last
        is answered or given up.

        Raises:
            OSError: the server does not listen.
        """
        start = trio.current_time() + start_at - time.monotonic()
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


def _emit(message: Message) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


def main() -> int:
    """Run the caller that ``sys.argv[1]`` specifies; the exit code."""
    caller = Caller(msgspec.json.decode(sys.argv[1], type=CallerSpec))
    _emit(Ready())
    instant = sys.stdin.readline()
    if not instant:
        return 1  # whoever started this has gone
    # A collection would be a pause of the caller's own making; a run's garbage is small.
    gc.collect()
    gc.disable()
    used = time.process_time()
    trio.run(caller.run, float(instant))
    _emit(Finished([caller.recording], time.process_time() - used))
    return 0


if __name__ == "__main__":
    sys.exit(main())
