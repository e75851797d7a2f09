"""Running the check: a copy of the tree, and a worker a module, two at a time."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import trio

from bench.failures import RunFailed
from bench.mutation.results import FileResult, Survivor
from bench.mutation.targets import Target

WORKERS = 2

LEAST_SECONDS = 10.0
"""A mutant that is done sooner is never taken for one that does not end."""

LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "results", "dist", "build", "*.egg-info")
"""Nothing that the tests of a policy need: histories, environments, caches, what was built."""

OnMutant = Callable[[], None]


def copy_tree(root: Path, copy: Path) -> None:
    """Copy what the tests need, so that nothing they do reaches the tree itself."""
    shutil.copytree(root, copy, ignore=LEFT_OUT)


async def check_all(
    copy: Path,
    targets: Sequence[Target],
    on_mutant: OnMutant,
    least_seconds: float = LEAST_SECONDS,
) -> list[FileResult]:
    """The results of every target, in their order.

    Raises:
        RunFailed: the tests of one fail without any change, or its worker ended early.
    """
    results: dict[Path, FileResult] = {}
    limiter = trio.CapacityLimiter(WORKERS)

    async def check(target: Target) -> None:
        async with limiter:
            results[target.file] = await _check(copy, target, on_mutant, least_seconds)

    async with trio.open_nursery() as nursery:
        for target in targets:
            nursery.start_soon(check, target)
    return [results[target.file] for target in targets]


async def _check(
    copy: Path, target: Target, on_mutant: OnMutant, least_seconds: float
) -> FileResult:
    command = [sys.executable, "-m", "bench.mutation.worker", str(least_seconds)]
    command += [target.module, str(target.file), *map(str, target.tests)]
    began = trio.current_time()
    mutants: list[dict[str, Any]] = []
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(
            functools.partial(
                trio.run_process,
                command,
                cwd=copy,
                stdout=subprocess.PIPE,
                check=False,
            )
        )
        async with aclosing(_lines(process)) as lines:
            async for line in lines:
                found = json.loads(line)
                if found["kind"] == "mutant":
                    mutants.append(found)
                    on_mutant()
                elif found["result"] != "survived":
                    raise RunFailed(f"the tests of {target.file} fail without any change")
    if process.returncode != 0:
        raise RunFailed(f"the worker of {target.file} ended with {process.returncode}")
    survived = [found for found in mutants if found["result"] == "survived"]
    return FileResult(
        file=str(target.file),
        mutants=len(mutants),
        killed=len(mutants) - len(survived),
        timed_out=sum(found["result"] == "timed out" for found in mutants),
        survivors=tuple(Survivor(m["line"], m["before"], m["after"]) for m in survived),
        seconds=round(trio.current_time() - began, 1),
    )


async def _lines(process: trio.Process) -> AsyncGenerator[bytes, None]:
    assert process.stdout is not None
    rest = b""
    async for chunk in process.stdout:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
