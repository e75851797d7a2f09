"""One core for the server under test, the others for everything else."""

from __future__ import annotations

import os
import shutil

from bench.failures import RunFailed


def require() -> None:
    """See that a process can be started on a chosen core.

    Raises:
        RunFailed: it cannot.
    """
    if shutil.which("taskset") is None:
        raise RunFailed("taskset keeps the server to one core and is not installed (util-linux)")


def pin_load() -> tuple[str, ...]:
    """Leave one core to the server, for this process and all that it starts from now on.

    Call it before anything is started. With a single core there is nothing to leave.

    Returns:
        what the server's command line has to begin with.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[1:])
    return ("taskset", "-c", str(cores[0]))
