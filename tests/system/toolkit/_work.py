"""What the worker processes of the tests run: they find it by its name.

It imports little, since they import it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


def double(number: int) -> int:
    return 2 * number


def pid() -> int:
    return os.getpid()


def take_memory(size: int) -> int:
    return len(bytearray(size))


def spin() -> NoReturn:
    while True:
        pass


def sleep(started: str = "") -> None:
    """Longer than any test; says before that it has begun."""
    if started:
        Path(started).write_text(str(os.getpid()))
    time.sleep(1000)


def sleep_with_child(started: str) -> None:
    """It is not alone: what it starts has to go with it."""
    child = subprocess.Popen(["sleep", "1000"])
    Path(started).with_suffix(".child").write_text(str(child.pid))
    sleep(started)


def fork_and_die() -> None:
    """Its child holds the channel open, so that its end is not seen there."""
    if os.fork():
        os._exit(7)
    time.sleep(1000)


def fail(text: str) -> NoReturn:
    raise LookupError(text)


class TwoArgumentsError(Exception):
    """Cannot be made from its own ``args``, so it cannot be unpickled."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def fail_uncarried() -> NoReturn:
    raise TwoArgumentsError("this", "that")


class SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def fail_silently() -> NoReturn:
    raise SilentError


def return_unsendable() -> Callable[[], None]:
    return lambda: None


class Unloadable:
    """Can be pickled, and not be unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return fail, ("not here",)


def return_unloadable() -> Unloadable:
    return Unloadable()


def fail_unloadable() -> NoReturn:
    error = LookupError("spoiled")
    error.args = (Unloadable(),)
    raise error


def segfault() -> None:
    ctypes.string_at(0)


def leave(code: int) -> None:
    os._exit(code)


def exit_normally(code: int) -> None:
    sys.exit(code)


def kill_self(number: int) -> None:
    os.kill(os.getpid(), number)


def close_everything() -> None:
    os.closerange(3, 100)
    time.sleep(1000)


def write_garbage() -> None:
    """Into every socket that it has, which is the channel."""
    for descriptor in range(3, 100):
        with contextlib.suppress(OSError):
            channel = socket.socket(fileno=descriptor)
            channel.sendall(b"\xff" * 64)
    time.sleep(1000)


def large(size: int) -> bytes:
    return bytes(size)


def limits() -> tuple[int, int]:
    import resource

    return resource.getrlimit(resource.RLIMIT_CORE)[0], resource.getrlimit(resource.RLIMIT_AS)[0]


def ignore_cpu_warning() -> NoReturn:
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    spin()


def thread_that_stays() -> int:
    threading.Thread(target=time.sleep, args=(1000,)).start()
    return os.getpid()


def talk() -> str:
    """What it prints must not be taken for an answer."""
    print("x" * 10_000)
    return sys.stdin.read()
