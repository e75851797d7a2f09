"""The near side of a load generator: start its process, set it off, follow it, get its samples."""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
import trio

from bench.isolation.messages import Finished, Message, Progress, Ready

READY_SECONDS = 20.0
"""How long a generator may take to be ready; it takes half a second where a core is free."""
LATE_SECONDS = 30.0
"""How much longer than planned a generator may run: its requests' timeout, and then some."""
RECEIVE_BYTES = 1 << 20

_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


class GeneratorFailed(Exception):
    """A load generator ended, or fell silent, before it had delivered its samples."""


class _Messages:
    """The messages on a process's standard output, one after another."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._pending = b""
        self._whole: deque[bytes] = deque()

    async def next(self) -> Message:
        """The next message.

        Raises:
            GeneratorFailed: there are no more.
        """
        pieces: list[bytes | bytearray] = [self._pending]
        while not self._whole:
            data = await self._stream.receive_some(RECEIVE_BYTES)
            if not data:
                raise GeneratorFailed("a load generator ended before its time")
            pieces.append(data)
            if b"\n" in data:
                *whole, last = b"".join(pieces).split(b"\n")
                self._whole.extend(whole)
                pieces = [last]
        self._pending = b"".join(pieces)
        return _decoder.decode(self._whole.popleft())


class Generator:
    """A load generator's process. Open one with `open_generator`."""

    def __init__(self, orders: trio.abc.SendStream, messages: trio.abc.ReceiveStream) -> None:
        self._orders = orders
        self._messages = _Messages(messages)

    async def wait_ready(self) -> None:
        """Return when the process awaits its start.

        Raises:
            GeneratorFailed: it ended, or took too long.
        """
        with trio.move_on_after(READY_SECONDS):
            while not isinstance(await self._messages.next(), Ready):
                pass
            return
        raise GeneratorFailed("a load generator did not become ready")

    async def run(
        self, start_at: float, seconds: float, on_progress: Callable[[int], None]
    ) -> Finished:
        """Set the generator off at ``start_at`` (monotonic clock) and wait for its samples.

        Args:
            start_at: the run's start, which its schedule counts from.
            seconds: how long the run is planned to last from there.
            on_progress: called now and then with the number of requests answered up to then.

        Raises:
            GeneratorFailed: it ended, or took much longer than planned.
        """
        with trio.move_on_after(seconds + LATE_SECONDS):
            await self._orders.send_all(f"{start_at!r}\n".encode())
            while True:
                message = await self._messages.next()
                if isinstance(message, Finished):
                    return message
                if isinstance(message, Progress):
                    on_progress(message.answered)
        raise GeneratorFailed("a load generator did not deliver its samples")


@asynccontextmanager
async def open_generator(
    spec: msgspec.Struct, *, module: str = "bench.isolation.load", prefix: Sequence[str] = ()
) -> AsyncIterator[Generator]:
    """Start the process for ``spec``; it is gone when the block ends.

    Args:
        spec: what ``module`` is told.
        module: the generator; its messages are those of `bench.isolation.messages`.
        prefix: what its command line begins with, such as ``nice``.
    """
    command = [*prefix, sys.executable, "-m", module, msgspec.json.encode(spec).decode()]
    # A session of its own: Ctrl-C is for the process that reports, which then ends this one.
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None, "opened with pipes"
    assert process.stdout is not None, "opened with pipes"
    try:
        yield Generator(process.stdin, process.stdout)
    finally:
        process.kill()  # it holds nothing that would need an orderly end
        with trio.CancelScope(shield=True):
            await process.stdin.aclose()
            await process.stdout.aclose()
            await process.wait()
