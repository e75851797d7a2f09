"""Instances that are killed and started again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import trio

from .._client import ask
from .._server import START_SECONDS, Server, running_server
from ..gateway._gateway import SETTINGS, Gateway

SECRET_KEY = "b" * 64
"""One for all: what one has sealed the others open."""


@attrs.define
class _Place:
    """Where an instance keeps its files, whether it runs or not."""

    data_dir: Path
    server: Server | None = None
    stack: ExitStack = attrs.field(factory=ExitStack)


class Fleet:
    """Some instances on one database. Open one with `running_fleet`.

    Attributes:
        killed_at: when instances were killed, in seconds of the machine's monotonic clock.
    """

    def __init__(self, places: list[_Place], database: str, variables: Mapping[str, str]) -> None:
        self._places = places
        self._database = database
        self._variables = {**SETTINGS, "SECRET_KEY": SECRET_KEY, **variables}
        self.killed_at: list[float] = []

    def __len__(self) -> int:
        return len(self._places)

    @property
    def servers(self) -> list[Server]:
        """Those that run now."""
        return [place.server for place in self._places if place.server is not None]

    @property
    def gateway(self) -> Gateway:
        """Those that run now, as operators and tenants see them."""
        return Gateway(tuple(self.servers))

    def is_running(self, number: int) -> bool:
        """Whether this one was started and not killed since."""
        return self._places[number].server is not None

    def start(self, number: int) -> None:
        """Start one that does not run; it is ready later, at another port: in the meantime its old
        one may be somebody else's."""
        place = self._places[number]
        place.server = place.stack.enter_context(
            running_server(
                self._variables,
                data_dir=place.data_dir,
                database=self._database,
                until_ready=False,
            )
        )

    async def wait_ready(self) -> None:
        """Until all that run are ready."""
        for server in self.servers:
            with trio.fail_after(START_SECONDS):
                while not await _is_ready(server):
                    assert server.process.poll() is None, server.tail()
                    await trio.sleep(0.05)

    async def restart(self, number: int) -> None:
        """Start one again until it is ready, as a supervisor does: with PostgreSQL away it ends."""
        place = self._places[number]
        last, deadline = "it was not running", trio.current_time() + START_SECONDS
        while place.server is None or not await _is_ready(place.server):
            assert trio.current_time() < deadline, f"not ready in {START_SECONDS} s\n{last}"
            if place.server is None or place.server.process.poll() is not None:
                place.stack.close()
                self.start(number)
            await trio.sleep(0.1)
            last = place.server.tail() if place.server else last

    async def kill(self, number: int) -> None:
        """``kill -9``."""
        place = self._places[number]
        assert place.server is not None
        assert place.server.process.poll() is None, f"it ended by itself\n{place.server.tail()}"
        server, place.server = place.server, None
        server.signal(signal.SIGKILL)
        self.killed_at.append(time.monotonic())
        await server.exit_code()
        place.stack.close()

    def stop(self) -> None:
        """End all."""
        for place in self._places:
            place.server = None
            place.stack.close()

    def tails(self) -> str:
        """The ends of what those say that run."""
        return "\n".join(server.tail() for server in self.servers)


async def _is_ready(server: Server) -> bool:
    try:
        return (await ask(server.address, "/ready", timeout=2)).status == 200
    except (OSError, AssertionError, trio.TooSlowError):
        return False


@contextmanager
def running_fleet(
    count: int,
    make_data_dir: Callable[[], Path],
    *,
    database: str,
    variables: Mapping[str, str],
) -> Iterator[Fleet]:
    """``count`` instances that were started and are ready soon; all are stopped on the way out."""
    places = [_Place(make_data_dir()) for _ in range(count)]
    fleet = Fleet(places, database, variables)
    try:
        for number in range(count):
            fleet.start(number)
        yield fleet
    finally:
        fleet.stop()
