"""Where the workers of one server have their sockets for each other."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bulkhead_trio.http.listeners import LONGEST_UNIX_PATH

PREFIX = "bulkhead-"
RANDOM_BYTES = 8
"""What `tempfile` adds to a prefix."""

SHORT_PARENTS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  what is made there is a directory of our own
"""Where it goes when the path of what TMPDIR names is too long for a socket."""


def socket_path(directory: str, worker: int) -> str:
    """The socket of one worker."""
    return str(Path(directory) / f"worker-{worker}.sock")


@contextmanager
def socket_directory(workers: int, parents: Iterable[str] | None = None) -> Iterator[str]:
    """A directory that only this user may enter, for as long as the block runs.

    Args:
        workers: how many sockets it must have room for, by the length of their paths.
        parents: where it may be, the best one first; by default where temporary files go, else
            `SHORT_PARENTS`.

    Raises:
        OSError: it cannot be made in any of them.
    """
    last = OSError("no directory has a path that is short enough for a socket")
    for parent in (tempfile.gettempdir(), *SHORT_PARENTS) if parents is None else parents:
        sample = socket_path(f"{parent}/{PREFIX}{'x' * RANDOM_BYTES}", workers)
        if len(os.fsencode(sample)) > LONGEST_UNIX_PATH:
            continue
        try:
            made = tempfile.TemporaryDirectory(
                prefix=PREFIX, dir=parent, ignore_cleanup_errors=True
            )
        except OSError as error:
            last = error
            continue
        with made as directory:
            yield directory
        return
    raise last
