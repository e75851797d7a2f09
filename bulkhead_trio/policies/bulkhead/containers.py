"""The container bulkhead: a command in a container of its own, by Docker's or Podman's client.

The container's life is the call's: it is removed by the engine when its command ends, and by us
when the call is cancelled or its client is lost.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar, Final, TypeAlias

import attrs
import trio

from bulkhead_trio.errors import ContainerFailed
from bulkhead_trio.policies._checks import check_positive, check_whole
from bulkhead_trio.policies.bulkhead._children import Child, Finished, converse
from bulkhead_trio.policies.bulkhead._engines import (
    Answer,
    ContainerLimits,
    ask_engine,
    check_command,
    check_limits,
    engine_words,
    find_engine,
    readable,
    run_arguments,
    start_client,
)
from bulkhead_trio.policies.bulkhead.bulkhead import (
    Bulkhead,
    BulkheadEvent,
    BulkheadStatistics,
)
from bulkhead_trio.policies.listeners import tell
from bulkhead_trio.policies.policy import Kind

REMOVE_SECONDS: Final = 10.0
"""For one ``rm --force``; an engine that takes longer is in trouble of its own."""

REMOVE_PAUSES: Final = (0.0, 0.5)
"""Seconds before each further ``rm --force``, while none has found the container: the engine may
still be making it when its client has gone."""

CLIENT_SECONDS: Final = 5.0
"""For a client that was asked to end; it is killed then."""

_ENGINE_FAILED: Final = 125
"""The client's own exit code: the engine did not come as far as the command."""

_LOG_BYTES: Final = 4_096

_log = logging.getLogger("bulkhead_trio.containers")


@attrs.frozen
class ContainerBulkheadStatistics(BulkheadStatistics):
    """What a container bulkhead holds at one moment, and has counted since it was made.

    Attributes:
        started: containers that were asked for.
        failed: calls that ended with `ContainerFailed`.
        removed: containers that were removed by force, since their call was over before them.
    """

    started: int
    failed: int
    removed: int


@attrs.frozen
class ContainerStarted:
    """A container was asked for."""

    bulkhead: str
    container: str
    image: str
    at: float


@attrs.frozen
class ContainerEnded:
    """Its command ended; ``exit_code`` is ``None`` where the call was over before."""

    bulkhead: str
    container: str
    exit_code: int | None
    at: float


ContainerBulkheadEvent: TypeAlias = BulkheadEvent | ContainerStarted | ContainerEnded


@attrs.frozen
class ContainerResult:
    """What a container has left.

    Attributes:
        stdout: the first bytes that it wrote.
        stderr: the last bytes that it wrote.
        is_truncated: whether it wrote more than is kept, to either.
    """

    stdout: bytes
    stderr: bytes
    is_truncated: bool


class ContainerBulkhead:
    """At most ``max_concurrent`` containers at once, each of which runs one command.

    A container has no network, a root file system that it cannot write to, no capabilities, and no
    way to get more rights.

    Args:
        name: for statistics, listeners, messages, and the containers' label.
        max_concurrent: containers; 1 or more.
        engine: the client's program, or a program and options of its own; by default the first of
            Docker and Podman that answers.
        memory: what a container may use, with a unit of b, k, m or g; it has no swap beside.
        cpus: processors that it may use, in parts too.
        pids: processes and threads that it may have.
        network: the engine's name of a network.
        read_only: whether its root file system is.
        max_wait: seconds a caller waits for a place; 0 refuses at once, ``math.inf`` leaves the
            limit to the caller's own deadline.
        max_queued: callers that may wait; by default 10,000.
        max_output_bytes: how much of stdout (its beginning) and of stderr (its end) is kept.
        listeners: told of what a `Bulkhead` tells, of `ContainerStarted` and `ContainerEnded`.

    Raises:
        ValueError: a parameter makes no sense; it is named.
    """

    kind: ClassVar[Kind] = Kind.BULKHEAD
    obeys_cancellation: ClassVar[bool] = True

    def __init__(
        self,
        name: str,
        max_concurrent: int,
        *,
        engine: str | Sequence[str] | None = None,
        memory: str = "256m",
        cpus: float = 1.0,
        pids: int = 64,
        network: str = "none",
        read_only: bool = True,
        max_wait: float = 0.0,
        max_queued: int | None = None,
        max_output_bytes: int = 2**20,
        listeners: Iterable[Callable[[ContainerBulkheadEvent], None]] = (),
    ) -> None:
        check_positive("cpus", cpus, unit="number of processors")
        check_whole("pids", pids, minimum=1)
        check_whole("max_output_bytes", max_output_bytes, minimum=0)
        self._limits = ContainerLimits(memory, cpus, pids, network, read_only)
        check_limits(self._limits)
        if not name.isprintable():
            raise ValueError(f"name must be printable, since it is a label, not {name!r}")
        self._wanted = engine_words(engine)
        self._listeners = tuple(listeners)
        self._bulkhead = Bulkhead(
            name,
            max_concurrent,
            max_wait=max_wait,
            max_queued=max_queued,
            listeners=self._listeners,
        )
        self.name = name
        self.max_wait = max_wait
        self._most_bytes = max_output_bytes
        self._engine: tuple[str, ...] | None = None
        self._started = 0
        self._failed = 0
        self._removed = 0

    async def run(
        self, image: str, *command: str, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> ContainerResult:
        """Run ``command`` in a new container of ``image``, and wait for its end.

        Args:
            image: its name; an image that is not here is pulled, if the engine can.
            command: a program in it and its arguments; nothing is the image's own.
            stdin: what the command is given to read: the place for secrets.
            env: variables of its environment. Other users of this machine can see them.

        Raises:
            BulkheadFull: no place is free, and nobody (more) may wait.
            QueueTimeout: the wait was too long.
            DeadlineUnreachable: the wait and the call would outlast the caller's deadline.
            EngineMissing: there is no engine.
            ContainerFailed: the command, or the engine, ended with anything but 0.
            ValueError: ``image``, ``command`` or ``env`` cannot be meant.
            OSError: the engine's client cannot be started.
        """
        env = env or {}
        check_command(image, command, env)
        async with self._bulkhead.acquire():
            if self._engine is None:
                self._engine = await find_engine(self._wanted)
            container = f"bulkhead-trio-{uuid.uuid4().hex}"
            arguments = run_arguments(self.name, container, self._limits, image, command, env)
            finished = await self._run(self._engine, container, image, arguments, stdin)
            if finished.exit_code != 0:
                self._failed += 1
                raise _failure(image, finished)
            return ContainerResult(finished.stdout, finished.stderr, finished.is_truncated)

    def resize(self, max_concurrent: int) -> None:
        """Change the number of containers; see `Bulkhead.resize`.

        Raises:
            ValueError: ``max_concurrent`` is below 1.
        """
        self._bulkhead.resize(max_concurrent)

    def statistics(self) -> ContainerBulkheadStatistics:
        """What the bulkhead holds now."""
        return ContainerBulkheadStatistics(
            **attrs.asdict(self._bulkhead.statistics()),
            started=self._started,
            failed=self._failed,
            removed=self._removed,
        )

    # --- inside ----------------------------------------------------------------------------------

    async def _run(
        self,
        engine: tuple[str, ...],
        container: str,
        image: str,
        arguments: list[str],
        stdin: bytes,
    ) -> Finished:
        child = await start_client((*engine, *arguments))
        self._started += 1
        if self._listeners:
            now = trio.current_time()
            tell(self._listeners, ContainerStarted(self.name, container, image, now))
        exit_code: int | None = None
        is_over = False
        try:
            finished = await converse(child, stdin, most_bytes=self._most_bytes)
            exit_code = finished.exit_code
            # A client that was killed, or gave up on its way, cannot have removed anything.
            is_over = exit_code is not None and 0 <= exit_code != _ENGINE_FAILED
        finally:
            if not is_over:
                # One that has ended by itself makes no more containers.
                pauses = REMOVE_PAUSES if exit_code is None or exit_code < 0 else ()
                await self._remove(engine, container, child, pauses)
            if self._listeners:
                now = trio.current_time()
                tell(self._listeners, ContainerEnded(self.name, container, exit_code, now))
        return finished

    async def _remove(
        self, engine: tuple[str, ...], container: str, client: Child, pauses: Sequence[float]
    ) -> None:
        """Remove ``container`` and end its client; it takes no part in the call's cancellation.

        The client is asked, not killed: killed while it starts a container, Podman's leaves one
        that ``rm`` knows nothing of. What it starts is then removed under it, which ends it too.
        """
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.end_politely, CLIENT_SECONDS)
                answer = await self._try_to_remove(engine, container)
            is_named = bool(answer.output)
            for pause in pauses:
                # Said again even where it was named: Podman names one that is only half made, and
                # its client finishes it.
                await trio.sleep(pause)
                answer = await self._try_to_remove(engine, container)
                is_named = is_named or bool(answer.output)
                if is_named:
                    break
        if is_named:
            self._removed += 1
        elif not answer.is_success and "no such container" not in answer.complaint.lower():
            _log.warning("container %s may be left: %s", container, answer.complaint)

    async def _try_to_remove(self, engine: tuple[str, ...], container: str) -> Answer:
        """Its ``output`` names what was removed, and is empty where nothing was."""
        return await ask_engine((*engine, "rm", "--force", container), REMOVE_SECONDS)


def _failure(image: str, finished: Finished) -> ContainerFailed:
    log = readable((finished.stderr or finished.stdout)[-_LOG_BYTES:])
    code = finished.exit_code
    if code is None or code < 0:
        how = "was lost with its engine's client"
    elif code == _ENGINE_FAILED:
        how = "could not be started"
    else:
        how = f"ended with exit code {code}"
    message = f"a container of {image} {how}"
    if log:
        message += f": {log.splitlines()[-1]}"
    return ContainerFailed(message, exit_code=code, log=log)
