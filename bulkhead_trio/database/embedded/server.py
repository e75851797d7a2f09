"""A PostgreSQL of one's own: started with the first process that wants it, stopped with the last.

Three locks beside the cluster's directory say who does what. The kernel drops them when their
holder dies, so a crash leaves nothing stale:

* ``postgres.lock``: every user holds it shared for as long as it uses the server. Whoever can make
  it exclusive on leaving was the last one, and stops the server.
* ``postgres.start.lock``: held exclusively while starting and stopping.
* ``postgres.alive.lock``: held by PostgreSQL's own processes, which inherit it. While one of them
  lives, even one that outlived a killed postmaster, no second server is started on the same files.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import psycopg
import trio

from bulkhead_trio.database._rules import Reconnection
from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.embedded._account import choose_account
from bulkhead_trio.database.embedded._cluster import Cluster
from bulkhead_trio.database.embedded._errors import EmbeddedServerError
from bulkhead_trio.database.embedded._file_lock import FileLock
from bulkhead_trio.database.embedded._processes import STOPPING, ServerProcess, end_orphans

_log = logging.getLogger("bulkhead_trio.database")

START_SECONDS: Final = 60.0
"""A start takes a tenth of a second, with initdb one; after a crash it replays what the last five
minutes wrote (``checkpoint_timeout``), which may take most of a minute on a slow disk."""

STOP_SECONDS: Final = 30.0
"""For the start lock and the three ways of stopping, which take 20 at most."""

ANSWER_SECONDS: Final = 5.0
"""What a running server gets to answer one question."""

STABLE_SECONDS: Final = 60.0
"""A server that lived longer is restarted without the patience that a series of crashes needs."""

LOG_CHECK_SECONDS: Final = 60.0
ORPHAN_POLL_SECONDS: Final = 0.2


@asynccontextmanager
async def open_embedded_server(
    directory: Path, *, max_connections: int, start_seconds: float = START_SECONDS
) -> AsyncIterator[EmbeddedServer]:
    """Use the PostgreSQL whose files are in ``directory``: made and started if need be.

    Any number of processes may use one directory; they share one server. It listens on a Unix
    socket that only its system account and root can reach, not on the network.

    As root, PostgreSQL runs as the owner of ``directory``, or as the account ``pgserver``, which is
    made if it is missing. So that this account can reach its files, directories above ``directory``
    and above PostgreSQL's installation that are closed to it get the right to be passed through
    (``chmod o+x``), and an installation that only root can read is made readable. Each change is
    logged. Nothing of the kind is done for an ordinary user.

    Args:
        directory: where the cluster is or will be; may be relative. Locks are kept beside it.
        max_connections: how many the server should allow. A server that others already use keeps
            what it has: see `EmbeddedServer.max_connections`.
        start_seconds: the longest that starting may take, waiting for others included.

    Raises:
        EmbeddedServerError: the server cannot be made or started; says why.
        OSError: files cannot be read or written.
    """
    cluster = await _find_cluster(directory, start_seconds)
    server = EmbeddedServer(cluster, max_connections=max_connections, start_seconds=start_seconds)
    try:
        await server._open()
        yield server
    finally:
        await server._close()


async def _find_cluster(directory: Path, seconds: float) -> Cluster:
    with _or_fail(trio.current_time() + seconds, _describe_slow_account):
        account = await choose_account(directory)
    return Cluster.at(directory, account)


def _describe_slow_account() -> EmbeddedServerError:
    return EmbeddedServerError("making a system account for PostgreSQL took too long")


class EmbeddedServer:
    """A running PostgreSQL that this process uses. Open one with `open_embedded_server`.

    Attributes:
        conninfo: libpq's connection string, for the superuser and the database ``postgres``.
        is_shared: whether others were using the server when this process came.
        max_connections: how many it allows, which is less than asked for when others started it
            with less.
    """

    def __init__(self, cluster: Cluster, *, max_connections: int, start_seconds: float) -> None:
        self.conninfo = ""
        self.is_shared = False
        self.max_connections = max_connections
        self._cluster = cluster
        self._wanted_connections = max_connections
        self._start_seconds = start_seconds
        self._users = cluster.lock("")
        self._is_user = False
        self._step = ""
        self._postmaster: ServerProcess | None = None

    @property
    def pid(self) -> int:
        """The postmaster's process number; another one after a restart.

        Raises:
            EmbeddedServerError: there is no server.
        """
        if self._postmaster is None:
            raise EmbeddedServerError("the embedded PostgreSQL does not run")
        return self._postmaster.pid

    async def supervise(self) -> None:
        """Restart the server whenever it has ended, until cancelled.

        Its end is noticed at once. Restarts are tried for ever, at growing distances, up to 5 s. Of
        several processes that share the server one restarts it, and the others find it running.
        """
        restarting = Reconnection()
        while True:
            started = trio.current_time()
            await self._wait_ended()
            _log.warning("PostgreSQL (process %s) has ended; restarting it", self.pid)
            if trio.current_time() - started > STABLE_SECONDS:
                restarting = restarting.succeeded()
            is_running = False
            while not is_running:
                restarting = restarting.failed(trio.current_time(), 1.0)
                await trio.sleep(restarting.seconds_left(trio.current_time()))
                is_running = await self._restart()
            _log.warning("PostgreSQL runs again (process %s)", self.pid)

    async def _wait_ended(self) -> None:
        while self._postmaster is not None and not self._postmaster.has_ended():
            with trio.move_on_after(LOG_CHECK_SECONDS):
                await self._postmaster.wait_ended()
            try:
                self._cluster.log.bound()
            except OSError as error:
                _log.warning("PostgreSQL's log cannot be put aside: %s", error)

    async def _restart(self) -> bool:
        try:
            async with self._start_lock():
                # Never made anew: users have migrated the one that was there.
                if not self._cluster.exists():
                    raise EmbeddedServerError(f"{self._cluster.directory} has gone")
                await self._ensure_running(is_alone=False)
        except (EmbeddedServerError, OSError) as error:
            _log.error("PostgreSQL cannot be restarted: %s", error)
            return False
        return True

    # --- coming and going ------------------------------------------------------------------------

    async def _open(self) -> None:
        async with self._start_lock():
            try:
                self._users.acquire_exclusive_nowait()
            except trio.WouldBlock:
                self.is_shared = True
            # Nobody makes it exclusive without the start lock, so this never has to wait.
            self._users.acquire_shared_nowait()
            self._is_user = True
            await self._ensure_running(is_alone=not self.is_shared)

    async def _close(self) -> None:
        if self._is_user:
            deadline = trio.current_time() + STOP_SECONDS
            with trio.CancelScope(shield=True, deadline=deadline) as scope:
                await self._leave()
            if scope.cancelled_caught:
                _log.error("PostgreSQL in %s was not stopped in time", self._cluster.directory)
        self._users.close()
        self._hold(None)

    async def _leave(self) -> None:
        with self._cluster.lock(".start") as start:
            await start.acquire_exclusive()
            try:
                self._users.acquire_exclusive_nowait()
            except trio.WouldBlock:
                return  # others use it still, and the last of them will stop it
            found = ServerProcess.find_postmaster(self._cluster.directory)
            if found is not None:
                self._hold(found)
            if self._postmaster is not None:
                await self._postmaster.stop()
            self._cluster.remove_socket_directory()

    def _hold(self, postmaster: ServerProcess | None) -> None:
        if self._postmaster is not None:
            self._postmaster.close()
        self._postmaster = postmaster

    @asynccontextmanager
    async def _start_lock(self) -> AsyncIterator[None]:
        """Nobody else starts or stops the server inside, and all of it has one deadline."""
        deadline = trio.current_time() + self._start_seconds
        with self._cluster.lock(".start") as start:
            with _or_fail(deadline, self._describe_busy):
                await start.acquire_exclusive()
            with _or_fail(deadline, self._describe_slow):
                yield

    def _describe_busy(self) -> EmbeddedServerError:
        return EmbeddedServerError(
            f"another process has been starting or stopping the PostgreSQL in "
            f"{self._cluster.directory} for more than {self._start_seconds:g} s"
        )

    def _describe_slow(self) -> EmbeddedServerError:
        return self._cluster.failure(
            f"PostgreSQL did not start in {self._start_seconds:g} s: {self._step}"
        )

    # --- running, under the start lock -----------------------------------------------------------

    async def _ensure_running(self, *, is_alone: bool) -> None:
        found = ServerProcess.find_postmaster(self._cluster.directory)
        if found is not None:
            self._hold(found)
            try:
                if await self._adopt(found, is_alone=is_alone):
                    return
                stages = STOPPING
            except EmbeddedServerError:
                if not is_alone and not found.has_ended():
                    raise  # others may think differently of it
                stages = STOPPING[1:]  # it would not finish anything either
            self._step = "the one that ran already does not stop"
            await found.stop(stages)
        await self._start()

    async def _adopt(self, postmaster: ServerProcess, *, is_alone: bool) -> bool:
        """Use a server that runs already; false when it allows too few connections and may go.

        Raises:
            EmbeddedServerError: it is of no use.
        """
        self._step = "it runs already, but takes no connections"
        conninfo = self._cluster.conninfo(await self._cluster.wait_ready(postmaster))
        allowed = await self._ask_max_connections(conninfo)
        if is_alone and allowed < self._wanted_connections:
            return False
        self.conninfo, self.max_connections = conninfo, allowed
        return True

    async def _ask_max_connections(self, conninfo: str) -> int:
        try:
            with trio.fail_after(ANSWER_SECONDS):
                connection = await Connection.connect(conninfo, autocommit=True)
                try:
                    cursor = await connection.execute("SHOW max_connections")
                    ((allowed,),) = await cursor.fetchall()
                finally:
                    connection.abandon()
        except (psycopg.Error, trio.TooSlowError) as error:
            raise EmbeddedServerError(
                f"PostgreSQL runs in {self._cluster.directory}, but does not answer: "
                f"{str(error) or 'it took too long'}"
            ) from error
        return int(allowed)

    async def _start(self) -> None:
        cluster = self._cluster
        cluster.open_way()
        with cluster.lock(".alive") as alive:
            self._step = "processes that this one cannot end, or not see, still use its files"
            await self._outlive(alive)
            if not cluster.exists():
                self._step = "initdb has not finished"
                await cluster.make(alive)
            self._step = "it takes no connections yet"
            started = await cluster.start(alive, max_connections=self._wanted_connections)
        self._hold(started)
        pid_file = await cluster.wait_ready(started)
        self.conninfo, self.max_connections = cluster.conninfo(pid_file), self._wanted_connections

    async def _outlive(self, alive: FileLock) -> None:
        """Take the lock that every process of an earlier server holds, ending those still there."""
        while True:
            if count := await end_orphans(self._cluster.directory):
                _log.warning("ended %s processes of a PostgreSQL that was killed", count)
            try:
                alive.acquire_exclusive_nowait()
            except trio.WouldBlock:
                await trio.sleep(ORPHAN_POLL_SECONDS)
            else:
                return


@contextmanager
def _or_fail(deadline: float, describe: Callable[[], EmbeddedServerError]) -> Iterator[None]:
    with trio.CancelScope(deadline=deadline) as scope:
        yield
    if scope.cancelled_caught:
        raise describe()
