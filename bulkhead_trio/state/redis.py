"""Redis as instances share it: there and quick, or away and known to be, at once.

coredis waits for an answer as long as it takes: a Redis that is stopped keeps its caller for ever.
Here every call is decided within a hard limit. A call that fails ends the connection, so that no
late answer is ever read by somebody else, and from then on calls fail without waiting, until a
probe in the background has found Redis well again.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
import structlog
import trio
from coredis.exceptions import ReadOnlyError, RedisClusterError, RedisError, ResponseError

from bulkhead_trio.errors import CircuitOpen, StateUnavailable
from bulkhead_trio.policies._checks import check_duration
from bulkhead_trio.policies.breaker import CircuitBreaker, Consecutive
from bulkhead_trio.policies.listeners import tell
from bulkhead_trio.state._address_rules import address_of, grouped
from bulkhead_trio.state._commands import Argument, Command, Script
from bulkhead_trio.state._nodes import Nodes, checked
from bulkhead_trio.state._round import Part, Round

CALL_SECONDS = 0.05
"""What a call may take: the contract's limit for a decision without Redis."""

LEAST_SECONDS = 0.02
"""What Redis gets to answer in any case. Of an instance whose event loop was held up, time may be
up before anything is sent: that says nothing of Redis."""

CONNECT_SECONDS = 1.0
"""What connecting may take, which nobody waits for: names, TLS, and each node of a cluster."""

PROBE_WAITS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.0)
"""Seconds before the first probe, the second, ...; the last for all that follow."""

MOST_KEYS = 128
"""Keys of one script: what it does for them, nobody else can interrupt."""

PROBE_KEY = b"bulkhead:probe"

PROBE_KEPT_MS = 10_000

_log: structlog.stdlib.BoundLogger = structlog.get_logger("bulkhead_trio.state")

_FAILURES = (RedisError, OSError)  # a timeout and what TLS finds wrong are both OSErrors


@attrs.frozen(kw_only=True)
class SharedStateStatistics:
    """What is known of Redis at one moment, and what has been counted.

    Attributes:
        is_up: whether calls are sent.
        is_cluster: whether it is a cluster.
        connections: that are open.
        in_flight: calls under way.
        calls: that were sent.
        round_trips: that they took, those of one turn of the event loop together.
        commands: in all of them.
        failed: calls that failed, late ones included.
        late: round trips that were not answered in time.
        refused: calls that were not sent, Redis being away.
        sessions: times that Redis was found well.
        retry_after: seconds until the next probe; 0 while it is up.
    """

    is_up: bool
    is_cluster: bool
    connections: int
    in_flight: int
    calls: int
    round_trips: int
    commands: int
    failed: int
    late: int
    refused: int
    sessions: int
    retry_after: float


@attrs.frozen
class RedisChanged:
    """What a listener is told: Redis is there (again), or is not.

    Attributes:
        reason: why it is not; empty when it is.
        at: when, on Trio's clock.
    """

    is_up: bool
    reason: str
    at: float


@attrs.define
class _Counts:
    in_flight: int = 0
    calls: int = 0
    round_trips: int = 0
    commands: int = 0
    failed: int = 0
    late: int = 0
    refused: int = 0
    sessions: int = 0


class SharedState:
    """One Redis, or one Redis Cluster, with the connections to it and a breaker round it.

    It holds one connection to each node, over which everything goes at the same time. Nothing is
    sent before `run` has found Redis well.

    Args:
        url: as `address_of` reads it.
        name: by which Redis knows our connections.
        scripts: loaded ahead, so that no call has to bring one along.
        call_seconds: hard limit of one call; where sending it was held up, it is `LEAST_SECONDS`
            from then.
        connect_seconds: hard limit of connecting.
        listeners: told of each `RedisChanged`.

    Attributes:
        is_up: whether calls are sent; read it to decide without a call.

    Raises:
        ValueError: the URL is none of Redis's, or a number makes no sense.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str = "bulkhead-trio",
        scripts: Iterable[Script] = (),
        call_seconds: float = CALL_SECONDS,
        connect_seconds: float = CONNECT_SECONDS,
        listeners: Iterable[Callable[[RedisChanged], None]] = (),
    ) -> None:
        check_duration("call_seconds", call_seconds)
        check_duration("connect_seconds", connect_seconds)
        self.is_up = False
        self.call_seconds = call_seconds
        self._connect_seconds = connect_seconds
        self._address = address_of(url)
        # Where to begin, the next one first: any node tells of all of a cluster.
        self._seeds = deque([self._address])
        self._name = name
        self._scripts = tuple(scripts)
        self._listeners = tuple(listeners)
        self._nodes: Nodes | None = None
        self._round: Round | None = None
        self._reason = ""
        self._is_noted = False
        self._counts = _Counts()
        self._channels: dict[str, list[Callable[[bytes], None]]] = {}
        self._returns: list[Callable[[], None]] = []
        self._breaker = CircuitBreaker(
            "redis",
            window=Consecutive(1),
            wait_in_open=PROBE_WAITS,
            record=_speaks_of_redis,
        )

    # --- asking ----------------------------------------------------------------------------------

    async def call(self, command: Command) -> Any:
        """The answer to one command, within the limit.

        Raises:
            StateUnavailable: Redis is away, refuses, or was too slow.
        """
        return (await self.calls((command,)))[0]

    async def calls(self, commands: Sequence[Command], *, deadline: float = math.inf) -> list[Any]:
        """The answers to commands that are sent together, within the limit for one call.

        What other tasks ask in the same turn of the event loop goes along. A caller that is
        cancelled meanwhile has its answers, or the limit, before it goes.

        Args:
            commands: at least one; in a cluster each goes to its own node.
            deadline: an earlier limit, on Trio's clock.

        Raises:
            StateUnavailable: Redis is away, refuses one of them, or was too slow; some of them may
                have had their effect.
        """
        counts = self._counts
        if self._nodes is None:
            counts.refused += 1
            await trio.lowlevel.checkpoint()
            raise self.unavailable()
        counts.calls += 1
        counts.commands += len(commands)
        counts.in_flight += 1
        part = Part(commands)
        try:
            if self._round is not None:
                self._round.join(part, deadline)
                await part.wait()
            else:
                await self._lead(part, min(deadline, trio.current_time() + self.call_seconds))
        finally:
            counts.in_flight -= 1
        return self._answers_of(part)

    async def _lead(self, part: Part, deadline: float) -> None:
        """Send what is asked in this turn, and give everybody their answers."""
        together = self._round = Round()
        together.join(part, deadline)
        answers = None
        try:
            await trio.lowlevel.cancel_shielded_checkpoint()
            self._round, nodes = None, self._nodes
            if nodes is not None:
                answers = await self._ask(nodes, together)
        finally:
            self._round = None
            together.settle(answers)

    async def _ask(self, nodes: Nodes, together: Round) -> list[Any] | None:
        self._counts.round_trips += 1
        try:
            with self._breaker.permit():
                least = trio.current_time() + min(LEAST_SECONDS, self.call_seconds)
                answers = await nodes.ask(together.commands, max(together.deadline, least))
                for answer in answers:
                    if isinstance(answer, RedisError) and _speaks_of_redis(answer):
                        raise answer
        except _FAILURES as error:
            self._counts.late += isinstance(error, TimeoutError)
            self._lose(nodes, error)
            return None
        return answers

    def _answers_of(self, part: Part) -> list[Any]:
        if part.answers is not None:
            error = next((each for each in part.answers if isinstance(each, RedisError)), None)
            if error is None:
                return list(part.answers)
            self._note(error)
        self._counts.failed += 1
        raise self.unavailable()

    async def run_on_keys(
        self,
        script: Script,
        keys: Sequence[bytes],
        arguments: Sequence[Sequence[Argument]],
        *,
        deadline: float = math.inf,
    ) -> list[Any]:
        """Run a script that takes any number of keys, and the same number of arguments for each.

        Keys go together in as few calls of the script as may be: in a cluster, those of one slot.

        Returns:
            what the script answers for each key, in the order of ``keys``.

        Raises:
            StateUnavailable: as for `calls`.
        """
        is_cluster = self._nodes is not None and self._nodes.is_cluster
        parts = grouped(keys, by_slot=is_cluster, most=MOST_KEYS)
        commands = [
            script.on(
                [keys[number] for number in part],
                [each for number in part for each in arguments[number]],
            )
            for part in parts
        ]
        answers: list[Any] = [None] * len(keys)
        for part, found in zip(parts, await self.calls(commands, deadline=deadline), strict=True):
            for number, answer in zip(part, found, strict=True):
                answers[number] = answer
        return answers

    def unavailable(self) -> StateUnavailable:
        """The error that says so, to be raised where no call is even tried."""
        wait = self._breaker.statistics().retry_after
        return StateUnavailable("the shared state is away", retry_after=max(wait, 1.0))

    def _lose(self, nodes: Nodes, error: Exception) -> None:
        """Send nothing more over ``nodes``; `run` connects anew."""
        nodes.lost.set()
        if self._nodes is nodes:
            self._went(_words(error))

    def _note(self, error: Exception) -> None:
        """Say once in a while that something of ours is refused by a Redis that is well."""
        if not self._is_noted:
            self._is_noted = True
            _log.warning("redis_refuses", reason=_words(error))

    # --- being told ------------------------------------------------------------------------------

    def subscribe(self, channel: str, callback: Callable[[bytes], None]) -> None:
        """Have ``callback`` told of each message of a channel; before `run`.

        A message may be lost while Redis is away; see `on_return`.
        """
        self._channels.setdefault(channel, []).append(callback)

    def on_return(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` told each time that Redis is there again; before `run`."""
        self._returns.append(callback)

    def _tell(self, channel: str, message: bytes) -> None:
        tell(self._channels.get(channel, ()), message)

    # --- keeping it ------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect, and connect anew whenever it is lost, for ever; has started after one try."""
        is_first = True
        while True:
            async with trio.open_nursery() as nursery:
                nodes = await self._try_to_open(nursery)
                if is_first:
                    is_first = False
                    task_status.started()
                if nodes is not None:
                    try:
                        await nodes.lost.wait()
                    finally:
                        self._nodes, self.is_up = None, False
                    self._went("the connection was lost")
                nursery.cancel_scope.cancel()
            await trio.sleep(self._breaker.statistics().retry_after)

    async def _try_to_open(self, nursery: trio.Nursery) -> Nodes | None:
        nodes = Nodes(nursery, self._seeds[0], self._name, self._scripts)
        try:
            with self._breaker.permit(), trio.fail_after(self._connect_seconds):
                first = await nodes.open(self._connect_seconds)
                await self._probe(nodes)
        except CircuitOpen:
            return None  # woken a rounding error too early
        except (trio.TooSlowError, *_FAILURES) as error:
            self._seeds.rotate(-1)
            self._went(_words(error))
            return None
        others = (each for each in nodes.addresses if each != self._address)
        self._seeds = deque([self._address, *others])
        if self._channels:
            nursery.start_soon(first.listen, tuple(self._channels), self._tell)
        self._came(nodes)
        return nodes

    async def _probe(self, nodes: Nodes) -> None:
        """Write something: a Redis that is full, read only or still loading answers, but not that.

        Raises:
            RedisError: it cannot be written to.
            TimeoutError: it takes longer than a call may.
        """
        command = Command(b"SET", (PROBE_KEY, b"1", b"PX", PROBE_KEPT_MS), PROBE_KEY)
        (answer,) = await nodes.ask((command,), trio.current_time() + self.call_seconds)
        checked(answer)

    def _came(self, nodes: Nodes) -> None:
        self._nodes, self.is_up, self._reason = nodes, True, ""
        self._is_noted = False
        self._counts.sessions += 1
        _log.info("redis_is_there", address=self._address.title, is_cluster=nodes.is_cluster)
        self._tell_change()
        for callback in self._returns:
            callback()

    def _went(self, reason: str) -> None:
        """It is away; said once, however many tries fail after that."""
        self._nodes, self.is_up = None, False
        if not self._reason:
            self._reason = reason
            _log.warning("redis_is_away", address=self._address.title, reason=reason)
            self._tell_change()

    def _tell_change(self) -> None:
        if self._listeners:
            record = RedisChanged(self.is_up, self._reason, trio.current_time())
            tell(self._listeners, record)

    # --- what it is ------------------------------------------------------------------------------

    def statistics(self) -> SharedStateStatistics:
        """What is known of Redis now."""
        nodes, counts = self._nodes, self._counts
        return SharedStateStatistics(
            is_up=self.is_up,
            is_cluster=nodes is not None and nodes.is_cluster,
            connections=0 if nodes is None else nodes.connections,
            in_flight=counts.in_flight,
            calls=counts.calls,
            round_trips=counts.round_trips,
            commands=counts.commands,
            failed=counts.failed,
            late=counts.late,
            refused=counts.refused,
            sessions=counts.sessions,
            retry_after=self._breaker.statistics().retry_after,
        )


def _speaks_of_redis(error: Exception) -> bool:
    """Whether an error says that Redis is not well, and not merely that it refuses one command."""
    if not isinstance(error, ResponseError):
        return isinstance(error, (*_FAILURES, trio.TooSlowError))
    if isinstance(error, ReadOnlyError | RedisClusterError):
        return True
    return any(word in str(error) for word in ("READONLY", "LOADING", "MASTERDOWN"))


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
