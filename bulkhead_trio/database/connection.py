"""One PostgreSQL connection, driven natively by Trio.

psycopg's protocol code is a set of generators that yield what they want to wait for. This module
does the waiting with `trio.lowlevel.wait_readable` and `wait_writable` on libpq's own socket: no
thread, no asyncio, no bridge. Cursors, transactions, prepared statements and adaptation are
psycopg's, unchanged; `Connection.fetch_value` goes past them, to libpq itself, for the one query
that is asked all the time. ``docs/database.md`` says why and with which figures.

A cancelled query leaves the protocol in the middle of an answer. `Connection` then remembers the
interrupted generator and refuses further work until `Connection.recover` has asked the server to
cancel the query and has read the rest of the answer, or has closed the connection. Whoever owns
the connection decides when that happens, so a caller whose deadline has passed does not have to
wait for a server that hangs.
"""

from __future__ import annotations

import logging
import select
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NoReturn, Self, TypeVar

import msgspec
import psycopg
import trio
from psycopg import generators, pq
from psycopg.abc import ConnParam, PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.json import set_json_loads

from bulkhead_trio.database._hosts import find_attempts
from bulkhead_trio.database._statement_rules import (
    KNOWN_STATEMENT,
    PreparedStatements,
    Statement,
    is_loss,
)
from bulkhead_trio.database._waiting import drive, drive_connecting

RV = TypeVar("RV")

_log = logging.getLogger("bulkhead_trio.database")

_OK = pq.ConnStatus.OK
_IDLE = pq.TransactionStatus.IDLE
_ACTIVE = pq.TransactionStatus.ACTIVE
_TUPLES = pq.ExecStatus.TUPLES_OK
_COMMAND_OK = pq.ExecStatus.COMMAND_OK
_SQLSTATE = pq.DiagnosticField.SQLSTATE
_ROUTINE = pq.DiagnosticField.SOURCE_FUNCTION

CONNECT_SECONDS = 10.0
"""The longest that one attempt to connect may take when ``connect_timeout`` does not say so.

libpq's own default is for ever; ten seconds outlast a busy server's fork and authentication."""

CANCEL_SECONDS = 5.0
"""The longest that leaving `open_connection` waits for the server to cancel a statement."""

FIRST_CANCEL_SECONDS = 0.05
"""What a cancel request gets to take effect before it is sent again; then twice as long."""


def _poll_of(pgconn: pq.abc.PGconn) -> select.poll:
    """Tells whether libpq's socket has something; `select` knows no descriptor above 1023."""
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)
    return poll


class Connection(psycopg.AsyncConnection[Any]):
    """A psycopg `~psycopg.AsyncConnection` that lives in Trio.

    Open one with `connect`, in a task that closes it again; `bulkhead_trio.database.Pool` does
    both for many. Not for use by two tasks at once: psycopg's lock makes the second one wait.
    """

    def __init__(self, pgconn: pq.abc.PGconn, *args: Any, **kwargs: Any) -> None:
        super().__init__(pgconn, *args, **kwargs)
        # psycopg uses its lock with `async with` only, and Trio's has the same shape.
        self.lock = self._lock = trio.Lock()  # type: ignore[assignment]
        self._interrupted: PQGen[Any] | None = None
        self._was_keyboard_interrupt = False
        self._statements = PreparedStatements()
        self._poll = _poll_of(pgconn)
        set_json_loads(msgspec.json.decode, self)

    @classmethod
    async def connect(  # type: ignore[override]
        cls,
        conninfo: str = "",
        *,
        autocommit: bool = False,
        prepare_threshold: int | None = 5,
        **params: ConnParam,
    ) -> Self:
        """Connect to the first of the hosts in ``conninfo`` that answers.

        Args:
            conninfo: a libpq connection string or URI.
            autocommit: whether each statement is a transaction of its own.
            prepare_threshold: executions of one statement after which the server keeps it
                prepared; ``None`` never, for a pooler that gives each transaction another
                session. `fetch_value` prepares at once, unless it is ``None``.
            params: libpq parameters that override those of ``conninfo``; ``connect_timeout`` is
                in seconds and for each attempt.

        Raises:
            psycopg.OperationalError: no host answered, or the one that did refused.
        """
        # What `fetch_value` gives goes out as it is, and JSON is UTF-8.
        merged = conninfo_to_dict(conninfo, **{**params, "client_encoding": "UTF8"})
        timeout = float(merged.get("connect_timeout") or 0) or CONNECT_SECONDS
        failure: psycopg.Error | None = None
        for attempt in await find_attempts(merged):
            try:
                with trio.fail_after(timeout):
                    connection = await cls._open(make_conninfo("", **attempt))
            except trio.TooSlowError:
                failure = psycopg.OperationalError(f"no answer within {timeout:g} s")
            except psycopg.Error as error:
                failure = error
            else:
                connection._autocommit = autocommit
                connection.prepare_threshold = prepare_threshold
                return connection
        if failure is None:
            failure = psycopg.OperationalError("the connection string names no host")
        raise failure

    @classmethod
    async def _open(cls, conninfo: str) -> Self:
        # psycopg's own generator; the libpq handle that a cancelled one leaves behind is closed
        # when the generator is, which must not wait for the garbage collector.
        generator = cls._connect_gen(conninfo)
        try:
            return await drive_connecting(generator)
        finally:
            generator.close()

    async def wait(
        self,
        gen: PQGen[RV],
        interval: float = 0.0,  # noqa: ARG002  psycopg's signature; Trio needs no polling
        timeout: float | None = None,
    ) -> RV:
        """Run one of psycopg's generators; the hook through which everything here waits.

        Raises:
            psycopg.OperationalError: the connection awaits `recover`, or broke.
        """
        if self._interrupted is not None:
            gen.close()
            await self._refuse()
        try:
            if timeout is None:
                return await drive(gen, self.pgconn.socket)
            with trio.fail_after(timeout):
                return await drive(gen, self.pgconn.socket)
        except (trio.Cancelled, trio.TooSlowError, KeyboardInterrupt) as interruption:
            if self.pgconn.transaction_status == _ACTIVE:
                self._interrupted = gen
                self._was_keyboard_interrupt = isinstance(interruption, KeyboardInterrupt)
            raise

    async def _refuse(self) -> NoReturn:
        # psycopg tidies up after an interrupted statement (a transaction block rolls back):
        # what must come out of that is the interruption, not our complaint.
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._was_keyboard_interrupt:
            raise KeyboardInterrupt
        raise psycopg.OperationalError("the connection was interrupted and awaits recovery")

    async def fetch_value(self, statement: Statement, parameters: Sequence[bytes]) -> bytes | None:
        """The one value that ``statement`` answers, in the bytes that PostgreSQL wrote, UTF-8.

        The short way for what is asked thousands of times a second: prepared at its first use,
        with no cursor and no adaptation. A transaction of its own, unless one is open.

        Args:
            statement: answers one row of one column.
            parameters: for ``$1``, ``$2`` ..., in PostgreSQL's text form.

        Returns:
            The value; ``None`` for NULL.

        Raises:
            psycopg.Error: as for `execute`; `psycopg.DataError` for a parameter with a NUL in it.
        """
        for parameter in parameters:
            if b"\0" in parameter:  # libpq would read as far as that
                raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()
        try:
            result = await self._run(statement, parameters)
        finally:
            self._lock.release()
        if result.status != _TUPLES:
            raise psycopg.errors.error_from_result(result, encoding=self.pgconn._encoding)
        return result.get_value(0, 0)

    async def _run(self, statement: Statement, parameters: Sequence[bytes]) -> pq.abc.PGresult:
        if self._interrupted is not None:
            await self._refuse()
        name = self._statements.get(statement) or await self._prepare(statement)
        if name is not None:
            self.pgconn.send_query_prepared(name, parameters)
            result = await self._result()
            if result.status == _TUPLES or not self._has_lost(result):
                return result
        self.pgconn.send_query_params(statement.sql, parameters)
        return await self._result()

    async def _prepare(self, statement: Statement) -> bytes | None:
        if self.prepare_threshold is None or not (name := self._statements.name_for(statement)):
            return None
        self.pgconn.send_prepare(name, statement.sql)
        result = await self._result()
        # It can be there already: prepared by a call that was cancelled before it knew.
        if result.status != _COMMAND_OK and not (
            result.error_field(_SQLSTATE) == KNOWN_STATEMENT and self._is_idle
        ):
            raise psycopg.errors.error_from_result(result, encoding=self.pgconn._encoding)
        self._statements.keep(statement, name)
        return name

    async def _result(self) -> pq.abc.PGresult:
        results: list[pq.abc.PGresult] = await self.wait(generators.execute(self.pgconn))
        return results[0]

    def _has_lost(self, result: pq.abc.PGresult) -> bool:
        """Whether what was asked is prepared no more, and may be asked again."""
        is_lost = is_loss(result.error_field(_SQLSTATE), result.error_field(_ROUTINE))
        if is_lost:
            self._statements.lose()
        return is_lost and self._is_idle

    @property
    def _is_idle(self) -> bool:
        # In a transaction an error is the end of it.
        return self.pgconn.transaction_status == _IDLE

    @property
    def is_interrupted(self) -> bool:
        """Whether a cancelled query's answer is still under way."""
        return self._interrupted is not None

    @property
    def is_reusable(self) -> bool:
        """Whether the next user would find it as a fresh one: open, idle, in no transaction."""
        return (
            self._interrupted is None
            and self.pgconn.status == _OK
            and self.pgconn.transaction_status == _IDLE
        )

    def has_gone(self) -> bool:
        """Whether the server has closed an idle connection; asks the kernel, never waits.

        An idle connection has nothing to read. If its socket is readable all the same, then libpq
        reads what there is: a notice, a changed setting, or the end.
        """
        try:
            while self.pgconn.status == _OK and self._poll.poll(0):
                self.pgconn.consume_input()
        except psycopg.OperationalError:
            return True
        return self.pgconn.status != _OK

    async def recover(self, *, timeout: float) -> bool:
        """Make an interrupted connection reusable, or close it.

        Sends PostgreSQL's cancel request, reads what is left of the answer and rolls an open
        transaction back, shielded from outer cancellation and within ``timeout`` seconds.

        Returns:
            Whether the connection is reusable; if not, it is closed.
        """
        with trio.CancelScope(shield=True, deadline=trio.current_time() + timeout):
            try:
                await self._finish_interrupted()
                if self.pgconn.transaction_status in (
                    pq.TransactionStatus.INTRANS,
                    pq.TransactionStatus.INERROR,
                ):
                    await self._abandon_transaction()
            except (psycopg.Error, OSError) as error:
                _log.debug("recovery failed, closing the connection: %s", error)
        if self.is_reusable:
            return True
        self.abandon()
        return False

    async def _finish_interrupted(self) -> None:
        if self._interrupted is None:
            return
        # It must not go on: it may be between preparing a statement and sending the query, and
        # would send it after the cancel request that was meant for it.
        self._interrupted.close()
        patience = FIRST_CANCEL_SECONDS
        while True:
            cancel = self.pgconn.cancel_conn()
            cancel.start()
            await drive_connecting(generators.cancel(cancel))
            with trio.move_on_after(patience) as scope:
                await drive(generators.execute(self.pgconn), self.pgconn.socket)
            if not scope.cancelled_caught:
                break
            # The request can reach the backend before the query does, and then cancels nothing.
            patience *= 2
        self._interrupted = None

    async def _abandon_transaction(self) -> None:
        # Not `rollback()`: psycopg forbids it while a transaction block is open, and the block
        # that was open here ended with the cancellation, unable to say so to the server.
        async with self.lock:
            await self.wait(self._exec_command(b"ROLLBACK"))
        self._num_transactions = 0

    def abandon(self) -> None:
        """Close at once, without waiting for anything.

        A query that is still running goes on in the server until it next writes: `recover` first
        where that matters.
        """
        if self.pgconn.status == _OK:
            # Whoever waits on this socket is woken before its number is another file's.
            trio.lowlevel.notify_closing(self.pgconn.socket)
        self._closed = True
        self.pgconn.finish()
        interrupted, self._interrupted = self._interrupted, None
        if interrupted is not None:
            interrupted.close()

    async def close(self) -> None:
        """Close; the same as `abandon`, under psycopg's name."""
        self.abandon()

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:
        """Ask the server to cancel what this connection is running.

        Raises:
            psycopg.errors.CancellationTimeout: no answer within ``timeout`` seconds.
        """
        try:
            with trio.fail_after(timeout):
                await drive_connecting(self._cancel_gen())
        except trio.TooSlowError:
            raise psycopg.errors.CancellationTimeout("cancellation timeout expired") from None

    def notifies(self, **_: Any) -> NoReturn:
        """Not offered: psycopg's version reads the wall clock and asyncio."""
        raise psycopg.NotSupportedError("use wait_notifications() on Trio")

    async def wait_notifications(self) -> list[psycopg.Notify]:
        """Wait for the channels that this connection listens on; those that came, at least one."""
        encoding = self.pgconn._encoding
        async with self.lock:
            batch = await self.wait(generators.notifies(self.pgconn))
        return [
            psycopg.Notify(
                notify.relname.decode(encoding), notify.extra.decode(encoding), notify.be_pid
            )
            for notify in batch
        ]


@asynccontextmanager
async def open_connection(
    conninfo: str, *, application_name: str, connect_timeout: int
) -> AsyncIterator[Connection]:
    """A connection of one's own, in autocommit mode, for the length of a block.

    Args:
        conninfo: a libpq connection string or URI.
        application_name: what PostgreSQL's administrators see.
        connect_timeout: seconds for each attempt to connect.

    Raises:
        psycopg.OperationalError: no host answered, or the one that did refused.
    """
    connection = await Connection.connect(
        conninfo,
        autocommit=True,
        application_name=application_name,
        connect_timeout=connect_timeout,
    )
    try:
        yield connection
    finally:
        # Closing alone would leave an interrupted statement running in the server, with its locks.
        if connection.is_interrupted:
            await connection.recover(timeout=CANCEL_SECONDS)
        connection.abandon()
