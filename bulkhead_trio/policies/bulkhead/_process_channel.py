"""A worker process as its starter sees it: one request at a time, one answer, or its end."""

from __future__ import annotations

import contextlib
import inspect
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from bulkhead_trio.errors import RemoteError, WorkerCrashed
from bulkhead_trio.policies.bulkhead import _process_worker as wire
from bulkhead_trio.policies.bulkhead._children import Child

WORKER_FILE: Final = str(Path(wire.__file__).resolve())
GRACE_SECONDS: Final = 1.0
"""How long a worker that has closed its channel may take to end, so that it says how it ended."""

_CHUNK_BYTES: Final = 65_536
_HERE: Final = wire.Main({wire.MAIN_MODULE: "__main__"})


@attrs.frozen
class Limits:
    """What one worker process may use.

    Attributes:
        memory_bytes: address space; ``None`` is no limit.
        cpu_seconds: CPU time of one call; ``None`` is no limit.
        most_bytes: the longest message to or from it.
    """

    memory_bytes: int | None
    cpu_seconds: float | None
    most_bytes: int


@attrs.frozen
class Reply:
    """What a worker has answered: a value, or what went wrong."""

    outcome: str
    data: bytes
    type_name: str
    text: str
    trace: str

    @property
    def is_out_of_memory(self) -> bool:
        """Whether the worker has come to its memory limit, and has not much left to work with."""
        return self.type_name == "builtins.MemoryError"

    def unwrap(self, pid: int) -> Any:
        """The value.

        Raises:
            Exception: what the function raised, with the worker's traceback as a note.
            RemoteError: it, or the value, cannot be carried over.
        """
        if self.outcome == "returned":
            return self._loaded()
        error = self._raised() or self._described(pid)
        if self.trace:
            error.add_note(f"In worker process {pid}:\n\n{self.trace}")
        raise error

    def _raised(self) -> Exception | None:
        """What the function raised, if it can be had here."""
        if self.outcome == "raised" and self.data:
            with contextlib.suppress(RemoteError):
                error = self._loaded()
                return error if isinstance(error, Exception) else None
        return None

    def _loaded(self) -> Any:
        try:
            return wire.load(self.data, _HERE)
        except Exception as error:
            kind = f"{type(error).__module__}.{type(error).__qualname__}"
            message = f"the answer of a worker process cannot be read here: {error}"
            raise RemoteError(message, type_name=kind, text=str(error)) from error

    def _described(self, pid: int) -> RemoteError:
        says = f"{self.type_name}: {self.text}"
        message = {
            "raised": f"raised {says}, which cannot be sent as it is",
            "unsendable": f"returned what cannot be sent back: {says}",
            "unreadable": f"could not load the function or its arguments: {says}",
        }[self.outcome]
        message = f"worker process {pid} {message}"
        return RemoteError(message, type_name=self.type_name, text=self.text)


def pack_request(work: Callable[..., object], args: tuple[object, ...], most_bytes: int) -> bytes:
    """The frame that asks for ``work(*args)``.

    Raises:
        ValueError: it cannot be pickled, or is too long.
        TypeError: ``work`` is an async function.
    """
    if inspect.iscoroutinefunction(work):
        raise TypeError(f"a worker process runs plain functions, and {work!r} is async")
    try:
        data = wire.dump((work, args))
    except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"this call cannot be sent to a worker process: {error}") from error
    if len(data) > most_bytes:
        raise ValueError(f"this call's {len(data)} bytes are more than the {most_bytes} allowed")
    return wire.HEADER.pack(len(data)) + data


def describe_end(
    returncode: int | None, limits: Limits, *, subject: str = "a worker process"
) -> WorkerCrashed:
    """The error that says how a process has ended."""
    if returncode is None:
        return WorkerCrashed(f"{subject} cannot be killed", exit_code=None, signal=None)
    if returncode >= 0:
        message = f"{subject} exited with code {returncode} in the middle of its call"
        return WorkerCrashed(message, exit_code=returncode, signal=None)
    try:
        name = signal.Signals(-returncode).name
    except ValueError:  # a real-time signal
        name = f"signal {-returncode}"
    message = f"{subject} was ended by {name}"
    if name == "SIGXCPU":
        message += f": it used more than {limits.cpu_seconds:g} s of CPU time"
    elif name == "SIGKILL":
        message += ", as the system does when memory runs out"
    return WorkerCrashed(message, exit_code=None, signal=name)


class Worker:
    """One worker process; whoever starts it ends it."""

    def __init__(self, child: Child, channel: trio.SocketStream, limits: Limits) -> None:
        self.child = child
        self.calls = 0
        self._channel = channel
        self._limits = limits
        self._exchange: trio.CancelScope | None = None
        self._has_ended = trio.Event()

    @classmethod
    async def start(cls, limits: Limits) -> Worker:
        """A process that is starting; requests can be sent already.

        Raises:
            OSError: there is no more room for a process or its files.
        """
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as on_failure:
            on_failure.enter_context(ours)
            command = (sys.executable, "-P", WORKER_FILE, "serve", str(theirs.fileno()))
            child = await Child.start(command, pass_fds=(theirs.fileno(),))
            on_failure.pop_all()
        return cls(child, trio.SocketStream(trio.socket.from_stdlib_socket(ours)), limits)

    async def wait_ended(self) -> None:
        """Wait for the process's end; what is being asked is over then.

        The channel alone does not show it: a process that it has started may hold the other end.
        """
        with contextlib.suppress(trio.ClosedResourceError):
            await self.child.wait_ended()
        self._has_ended.set()
        if self._exchange is not None:
            self._exchange.cancel()

    async def ask(self, request: bytes) -> Reply:
        """Send ``request``, and wait for its answer.

        Whoever is cancelled here has to end the worker: what it would answer next is for nobody.

        Raises:
            WorkerCrashed: the process has ended instead; it is reaped.
        """
        first = self._setup() if self.calls == 0 else b""
        self.calls += 1
        reply: Reply | None = None
        with trio.CancelScope() as self._exchange, contextlib.suppress(trio.BrokenResourceError):
            await self._channel.send_all(first + request)
            reply = await self._receive()
        self._exchange = None
        if reply is None:
            raise await self._crashed()
        return reply

    async def end(self) -> int | None:
        """Kill it, reap it, close what belongs to it."""
        with trio.CancelScope(shield=True):
            await self._channel.aclose()
        return await self.child.end()

    def _setup(self) -> bytes:
        main = sys.modules["__main__"]
        file = getattr(main, "__file__", None)
        setup: wire.Setup = {
            "path": [os.path.abspath(entry) for entry in sys.path],
            "main_file": str(Path(file).resolve()) if file and Path(file).is_file() else None,
            "memory_bytes": self._limits.memory_bytes,
            "cpu_seconds": self._limits.cpu_seconds,
            "most_bytes": self._limits.most_bytes,
        }
        data = pickle.dumps(setup)
        return wire.HEADER.pack(len(data)) + data

    async def _receive(self) -> Reply | None:
        data = bytearray()
        needed = wire.HEADER.size
        while len(data) < needed:
            chunk = await self._channel.receive_some(_CHUNK_BYTES)
            if not chunk:
                return None
            data += chunk
            if needed == wire.HEADER.size and len(data) >= needed:
                needed += wire.HEADER.unpack_from(data)[0]
                if needed > wire.HEADER.size + self._limits.most_bytes:
                    return None  # not one of our frames: somebody else has written to the channel
        return Reply(*pickle.loads(data[wire.HEADER.size :]))  # noqa: S301  from our own child

    async def _crashed(self) -> WorkerCrashed:
        with trio.move_on_after(GRACE_SECONDS, shield=True) as grace:
            await self._has_ended.wait()
        returncode = await self.end()
        if grace.cancelled_caught:
            message = "a worker process closed its channel in the middle of its call"
            return WorkerCrashed(message, exit_code=None, signal=None)
        return describe_end(returncode, self._limits)


@contextlib.asynccontextmanager
async def start_limited(
    command: Sequence[str],
    limits: Limits,
    *,
    env: Mapping[str, str] | None,
    cwd: str | os.PathLike[str] | None,
) -> AsyncIterator[Child]:
    """``command`` in a process that has put the limits on itself first, with pipes to talk to it.

    Raises:
        OSError: it cannot be started; told when the block is left.
    """
    memory = "" if limits.memory_bytes is None else str(limits.memory_bytes)
    cpu = "" if limits.cpu_seconds is None else str(limits.cpu_seconds)
    failed, tell_failed = os.pipe()
    try:
        try:
            starter = (sys.executable, "-I", "-S", WORKER_FILE, "exec", str(tell_failed))
            child = await Child.start(
                (*starter, memory, cpu, *command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(tell_failed,),
                env=env,
                cwd=cwd,
            )
        finally:
            os.close(tell_failed)
        try:
            yield child
        finally:
            await child.end()
        number = os.read(failed, 16)
    finally:
        os.close(failed)
    if number:
        raise OSError(int(number), os.strerror(int(number)), command[0])
