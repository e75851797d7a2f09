"""The floods that wrk can't make, as a process: a new connection for each request, or garbage.

``python -m bench.http.floods SPEC`` with SPEC a `BadFloodSpec` as JSON. It talks as the generators
of `bench.isolation` do: `Ready`, the start's instant, `Finished`.
"""

from __future__ import annotations

import gc
import random
import sys
import time
from collections.abc import Awaitable, Callable

import msgspec
import trio

from bench.client import Address, Connection, ConnectionLost, build_request
from bench.isolation.messages import Finished, Message, Ready, Recording, Sample

RECONNECT_SECONDS = 0.05
"""How long a connection that could not be opened waits before it is tried again."""
RECEIVE_BYTES = 65_536
RANDOM_BYTES = 512

_END = b"\r\n\r\n"
_POST = b"POST /api/orders HTTP/1.1\r\nHost: a\r\n"


class BadFloodSpec(msgspec.Struct, frozen=True):
    """Keep ``connections`` busy, each with one short life after another.

    It begins ``after`` seconds from the run's start and lasts ``seconds``. With ``is_garbage`` what
    is sent is no request; otherwise it asks for ``path`` for ``tier``.
    """

    host: str
    port: int
    tier: str
    path: str
    connections: int
    after: float
    seconds: float
    timeout: float
    is_garbage: bool
    seed: str


def garbage(seed: str) -> list[bytes]:
    """Lots of bytes, none of which is a request: what scanners and smugglers send, and noise."""
    noise = random.Random(seed).randbytes
    return [
        noise(RANDOM_BYTES) + _END,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + noise(RANDOM_BYTES) + _END,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n" + _END,
        b"GET / HTTP/1.1\r\nHost : a" + _END,
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b" + _END,
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n folded" + _END,
        b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 32_768 + _END,
        b"CONNECT a:443 HTTP/1.1\r\nHost: a:443" + _END,
        _POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked" + _END + b"0\r\n\r\n",
        _POST + b"Transfer-Encoding: chunked" + _END + b"ZZ\r\n",
        _POST + b"Content-Length: 1\r\nContent-Length: 2" + _END + b"ab",
    ]


class BadFlood:
    """Connections that each live for one exchange."""

    def __init__(self, spec: BadFloodSpec) -> None:
        self._spec = spec
        self._address = Address(spec.host, spec.port)
        self._request = build_request(self._address, spec.path, {"X-Tenant-Tier": spec.tier})
        self._garbage = garbage(spec.seed)
        self.recording = Recording(spec.tier, [])

    async def run(self, start_at: float) -> None:
        """Flood for the specified time from ``start_at``, seconds of the monotonic clock.

        What is in flight at its end is dropped.
        """
        start = trio.current_time() + start_at - time.monotonic()
        await trio.sleep_until(start + self._spec.after)
        live = self._send_garbage if self._spec.is_garbage else self._ask
        with trio.move_on_at(start + self._spec.after + self._spec.seconds):
            async with trio.open_nursery() as nursery:
                for number in range(self._spec.connections):
                    nursery.start_soon(self._keep_living, start, number, live)

    async def _keep_living(
        self, start: float, number: int, live: Callable[[int], Awaitable[tuple[int, str]]]
    ) -> None:
        while True:
            number += 1
            begun = trio.current_time()
            status, code = 0, "timed_out"
            with trio.move_on_after(self._spec.timeout):
                try:
                    status, code = await live(number)
                except (OSError, ConnectionLost):
                    code = "connection_lost"
            latency = trio.current_time() - begun
            self.recording.samples.append(Sample(begun - start, 0.0, latency, status, code))
            if status == 0:
                await trio.sleep(RECONNECT_SECONDS)

    async def _ask(self, _number: int) -> tuple[int, str]:
        connection = await Connection.open(self._address)
        try:
            answer = await connection.request(self._request)
            return answer.status, answer.code
        finally:
            connection.close()

    async def _send_garbage(self, number: int) -> tuple[int, str]:
        """Send one lot, and read until the server has had enough of it."""
        connection = await Connection.open(self._address)
        try:
            await connection.send(self._garbage[number % len(self._garbage)])
            answer = b""
            while data := await connection.receive(RECEIVE_BYTES):
                answer += data
            return status_of(answer), ""
        finally:
            connection.close()


def status_of(answer: bytes) -> int:
    """The status of the first answer in what was received; 0 if there is none."""
    version, _, rest = answer.partition(b" ")
    return int(rest[:3]) if version.startswith(b"HTTP/1.") and rest[:3].isdigit() else 0


def _emit(message: Message) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


def main() -> int:
    """Run the flood that ``sys.argv[1]`` specifies; the exit code."""
    flood = BadFlood(msgspec.json.decode(sys.argv[1], type=BadFloodSpec))
    _emit(Ready())
    instant = sys.stdin.readline()
    if not instant:
        return 1  # whoever started this has gone
    gc.disable()
    used = time.process_time()
    trio.run(flood.run, float(instant))
    _emit(Finished([flood.recording], time.process_time() - used))
    return 0


if __name__ == "__main__":
    sys.exit(main())
