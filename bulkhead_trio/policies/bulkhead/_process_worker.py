"""What runs in a worker process. Started as a script, so it needs the standard library alone.

``serve FD`` answers requests on an inherited socket: a frame is eight bytes of length and so many
bytes of pickle, exchanged with the process that started this one and with nobody else.
``exec FD MEMORY CPU COMMAND ...`` puts the limits on itself and becomes the command; an error
number is written to FD if that fails.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import io
import math
import os
import pickle
import resource
import socket
import struct
import sys
import traceback
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any, Final, TypedDict

HEADER: Final = struct.Struct("!Q")
MAIN_MODULE: Final = "__bulkhead_main__"
"""What the starting program's ``__main__`` is called here, so that it does not run again."""


class Setup(TypedDict):
    """The first frame: what a worker has to know before its first request."""

    path: list[str]
    main_file: str | None
    memory_bytes: int | None
    cpu_seconds: float | None
    most_bytes: int


class Pickler(pickle.Pickler):
    """Pickles functions by reference, the ones that a decorator hides behind its own too."""

    def persistent_id(self, obj: Any) -> tuple[str, str] | None:
        """The place of the function that wraps ``obj``, where it is found in ``obj``'s place."""
        if not isinstance(obj, FunctionType):
            return None
        module, qualname = obj.__module__, obj.__qualname__
        found: object = sys.modules.get(module)
        for name in qualname.split("."):
            found = getattr(found, name, None)
        return (module, qualname) if getattr(found, "__wrapped__", None) is obj else None


class Unpickler(pickle.Unpickler):
    """Reads what `Pickler` wrote; ``main`` stands for the other side's ``__main__``."""

    def __init__(self, data: bytes, main: Main) -> None:
        super().__init__(io.BytesIO(data))
        self._main = main

    def find_class(self, module: str, name: str) -> Any:
        """A global of the other side's ``__main__`` is one of ``main``'s."""
        self._main.prepare(module)
        return super().find_class(self._main.names.get(module, module), name)

    def persistent_load(self, pid: Any) -> Any:
        """The function inside a decorated one."""
        module, qualname = pid
        return self.find_class(module, qualname).__wrapped__


class Main:
    """How the modules called ``__main__`` on the two sides find each other.

    Args:
        names: what a module of the other side is called on this one.
        file: where the other side's ``__main__`` is loaded from, when it is asked for.
    """

    def __init__(self, names: dict[str, str], file: str | None = None) -> None:
        self.names = names
        self._file = file

    def prepare(self, module: str) -> None:
        """Load the starting program's ``__main__``, once, when ``module`` is it."""
        if self.names.get(module) != MAIN_MODULE or MAIN_MODULE in sys.modules:
            return
        if self._file is None:
            raise pickle.UnpicklingError("__main__ has no file that a worker could import")
        spec = importlib.util.spec_from_file_location(MAIN_MODULE, self._file)
        if spec is None or spec.loader is None:
            raise pickle.UnpicklingError(f"{self._file} is no module that a worker could import")
        loaded: ModuleType = importlib.util.module_from_spec(spec)
        sys.modules[MAIN_MODULE] = loaded
        try:
            spec.loader.exec_module(loaded)
        except BaseException:
            del sys.modules[MAIN_MODULE]
            raise


def dump(value: object) -> bytes:
    """``value`` as `Pickler` writes it."""
    target = io.BytesIO()
    Pickler(target, pickle.HIGHEST_PROTOCOL).dump(value)
    return target.getvalue()


def load(data: bytes, main: Main) -> Any:
    """What ``data`` stands for."""
    return Unpickler(data, main).load()


# --- limits --------------------------------------------------------------------------------------


def limit_memory(memory_bytes: int | None) -> None:
    """No core dumps; and no more address space than so many bytes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes is not None:
        most = _within(resource.RLIMIT_AS, memory_bytes)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def limit_cpu(cpu_seconds: float | None) -> None:
    """So many seconds of CPU time from now, rounded up, since the system counts whole ones."""
    if cpu_seconds is None:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime + cpu_seconds)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (_within(resource.RLIMIT_CPU, soft), hard))


def _within(kind: int, wanted: int) -> int:
    """``wanted``, or less where whoever started all this was given less."""
    _, hard = resource.getrlimit(kind)
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


# --- serving -------------------------------------------------------------------------------------


def read_frame(channel: io.BufferedReader) -> bytes | None:
    """The next frame; ``None`` when the other side has gone."""
    header = channel.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (length,) = HEADER.unpack(header)
    data = channel.read(length)
    return data if len(data) == length else None


def answer(request: bytes, main: Main) -> tuple[str, bytes, str, str, str]:
    """Run what is asked for; ``(outcome, pickle, type name, text, traceback)``."""
    try:
        work, args = load(request, main)
    except Exception as error:  # noqa: BLE001  importing runs anything
        return failure("unreadable", error, main)
    try:
        value = work(*args)
    except Exception as error:  # noqa: BLE001  it belongs to whoever asked
        return failure("raised", error, main)
    try:
        return "returned", dump(value), "", "", ""
    except Exception as error:  # noqa: BLE001  pickling runs anything
        return failure("unsendable", error, main)


def failure(outcome: str, error: Exception, main: Main) -> tuple[str, bytes, str, str, str]:
    """``error`` as a pickle if it survives one, and as text."""
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}"
    try:
        data = dump(error)
        if type(load(data, main)) is not kind:
            data = b""
    except Exception:  # noqa: BLE001  an exception can be built in any way
        data = b""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001
        text = "(it cannot say what)"
    return outcome, data, name, text, "".join(traceback.format_exception(error))


@contextlib.contextmanager
def tied_to(channel: socket.socket) -> Iterator[None]:
    """While this process works it does not look at the channel: the system does, and ends its
    group when the other side goes away, even by a kill. It sends nothing else meanwhile.
    """
    flags = fcntl.fcntl(channel, fcntl.F_GETFL)
    fcntl.fcntl(channel, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(channel, fcntl.F_SETFL, flags | os.O_ASYNC)
    with contextlib.suppress(BlockingIOError):
        if not channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
            sys.exit()  # it went before the system looked
    try:
        yield
    finally:
        fcntl.fcntl(channel, fcntl.F_SETFL, flags)


def serve(descriptor: int) -> None:
    """Answer requests until the other side goes away."""
    os.set_inheritable(descriptor, False)
    channel = socket.socket(fileno=descriptor)
    requests = channel.makefile("rb")
    first = read_frame(requests)
    if first is None:
        return
    setup: Setup = pickle.loads(first)  # noqa: S301  from the process that started this one
    sys.path[:] = setup["path"]
    main = Main({"__main__": MAIN_MODULE}, setup["main_file"])
    limit_memory(setup["memory_bytes"])
    while (request := read_frame(requests)) is not None:
        limit_cpu(setup["cpu_seconds"])
        with tied_to(channel):
            reply = pickle.dumps(answer(request, main))
        if len(reply) > setup["most_bytes"]:
            text = f"its {len(reply)} bytes are more than the {setup['most_bytes']} allowed"
            reply = pickle.dumps(("unsendable", b"", "builtins.ValueError", text, ""))
        channel.sendall(HEADER.pack(len(reply)) + reply)


def become(descriptor: int, memory: str, cpu: str, command: list[str]) -> None:
    """Take the limits on and become ``command``; it inherits them."""
    os.set_inheritable(descriptor, False)
    try:
        if cpu:
            seconds = math.ceil(float(cpu))
            # One second after the warning that can be caught comes the kill that cannot.
            hard = _within(resource.RLIMIT_CPU, seconds + 1)
            resource.setrlimit(resource.RLIMIT_CPU, (min(seconds, hard), hard))
        limit_memory(int(memory) if memory else None)
        os.execvp(command[0], command)  # noqa: S606  no shell, and that is the point
    except OSError as error:
        os.write(descriptor, str(error.errno).encode())


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        become(int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5:])
