"""The workers' numbers for each other: whoever is asked by HTTP asks all of them."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol, Self

import attrs
import msgspec
import structlog
import trio

from bulkhead_trio.http.listeners import UnixAddress, open_sockets
from bulkhead_trio.observe._totals_rules import continued, counters
from bulkhead_trio.observe.snapshots import Census, ProcessSnapshot
from bulkhead_trio.workers.directory import socket_path

CENSUS_SECONDS = 0.5
"""What a worker gets to answer; who takes longer is left out."""

ANSWER_SECONDS = 2.0
MOST_SNAPSHOT_BYTES = 16 * 1024 * 1024

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(ProcessSnapshot)

_log = structlog.get_logger("bulkhead_trio.workers")


def encode(snapshot: ProcessSnapshot) -> bytes:
    """As it travels between processes."""
    return _ENCODER.encode(snapshot)


def decode(data: bytes) -> ProcessSnapshot:
    """What `encode` has made.

    Raises:
        msgspec.DecodeError: it is something else.
    """
    return _DECODER.decode(data)


class Reader(Protocol):
    """Reads a process's numbers: `bulkhead_trio.api.census.ProcessReader` does."""

    def read(self) -> ProcessSnapshot:
        """What they are now."""

    def read_counters(self) -> ProcessSnapshot:
        """Those of them that only grow."""


class Siblings:
    """Takes the census of all workers, and answers when others take it.

    Each worker listens on a Unix socket of its own in a directory that is closed to other users.
    Whoever connects gets all numbers and then the end.

    Args:
        directory: where the sockets are.
        worker: the number of this one, from 0.
        workers: how many there are.
        past: what the predecessors of this one have counted.
    """

    def __init__(
        self, directory: str, *, worker: int, workers: int, past: ProcessSnapshot | None = None
    ) -> None:
        self._directory = directory
        self._worker = worker
        self._workers = workers
        self._past = past
        self._reader: Reader | None = None

    def join(self, reader: Reader) -> Self:
        """Have this worker's numbers read by ``reader``; until then there are none."""
        self._reader = reader
        return self

    def own(self) -> ProcessSnapshot:
        """This worker's numbers, with those of its predecessors."""
        now = ProcessSnapshot(tiers={}) if self._reader is None else self._reader.read()
        return attrs.evolve(continued(now, self._past), worker=self._worker)

    def counted(self) -> ProcessSnapshot:
        """What this worker and its predecessors have counted: what is to outlive it."""
        now = ProcessSnapshot(tiers={}) if self._reader is None else self._reader.read_counters()
        return attrs.evolve(continued(counters(now), self._past), worker=self._worker)

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer the other workers until cancelled."""
        address = UnixAddress(self._path(self._worker), mode=0o600)
        async with open_sockets([address]) as sockets, trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._answer, sockets.listeners(0))
            task_status.started()

    async def take(self) -> Census:
        """Everybody's numbers; of whoever does not answer within half a second, none."""
        found = {self._worker: self.own()}
        with trio.move_on_after(CENSUS_SECONDS):
            async with trio.open_nursery() as nursery:
                for number in range(self._workers):
                    if number != self._worker:
                        nursery.start_soon(self._ask, number, found)
        census = Census(self._workers, tuple(found[number] for number in sorted(found)))
        if census.missing:
            _log.warning("workers_missing", missing=list(census.missing))
        return census

    async def _ask(self, number: int, found: dict[int, ProcessSnapshot]) -> None:
        data = b""
        with suppress(OSError, trio.BrokenResourceError, msgspec.DecodeError):
            async with await trio.open_unix_socket(self._path(number)) as stream:
                while (chunk := await stream.receive_some()) and len(data) < MOST_SNAPSHOT_BYTES:
                    data += chunk
            found[number] = decode(data)

    async def _answer(self, stream: trio.SocketStream) -> None:
        with trio.move_on_after(ANSWER_SECONDS), suppress(trio.BrokenResourceError):
            await stream.send_all(encode(self.own()))
        await trio.aclose_forcefully(stream)

    def _path(self, number: int) -> str:
        return socket_path(self._directory, number)
