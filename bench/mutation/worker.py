"""One warm process a module: forks a child for each mutant, which runs the tests with it.

``python -m bench.mutation.worker LEAST_SECONDS MODULE FILE TEST...`` in the top of a copy of the
tree; writes a line of JSON for each mutant to stdout, the first of them for the module as it is. A
mutant has LEAST_SECONDS at the least before it counts as one that does not end.

It runs outside Trio, since a running Trio loop must not be forked; the tests in the children run
Trio themselves.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType

import hypothesis
import pytest

from bench.mutation.mutants import mutants_of

WARM = ("trio", "trio.testing", "pytest_trio", "attrs", "msgspec", "psycopg", "hypothesis.stateful")
"""What the tests import besides the package, which must not be imported before the mutant is in."""

PYTEST = ("-x", "-q", "-p", "no:cacheprovider", "-p", "no:pytest_cov", "--assert=plain")

EXAMPLES = 30
STEPS = 25
"""Few: what a boundary test does not catch, a thousand examples should not have to."""

BASELINE_SECONDS = 300.0
"""The tests of one module take far less."""

TIMES_BASELINE = 5
"""A mutant that takes so many times as long as the module as it is does not end."""

MEMORY_BYTES = 4 << 30
"""Of address space: a mutant whose loop does not end may fill a list meanwhile."""


class MutantFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module another code than its file has."""

    def __init__(self, module: str, file: Path, code: CodeType) -> None:
        self._module = module
        self._file = file
        self._code = code

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The import system's call."""
        if fullname != self._module:
            return None
        spec = importlib.machinery.ModuleSpec(fullname, self, origin=str(self._file))
        spec.has_location = True
        return spec

    def exec_module(self, module: ModuleType) -> None:
        """The import system's call."""
        exec(self._code, module.__dict__)  # noqa: S102  that is what it is for


def main(least_seconds: float, module: str, file: str, tests: Sequence[str]) -> None:
    """Run the module as it is, then each mutant, and write what became of it."""
    # Ctrl-C reaches whoever started this too, who then ends it, and it the child under way.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    hypothesis.settings.register_profile(
        "mutation",
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
        suppress_health_check=tuple(hypothesis.HealthCheck),
    )
    hypothesis.settings.load_profile("mutation")
    for name in WARM:
        importlib.import_module(name)
    gc.freeze()
    path = Path(file).resolve()
    source = path.read_text(encoding="utf-8")
    began = time.perf_counter()
    result = _run(
        MutantFinder(module, path, compile(source, file, "exec")), tests, BASELINE_SECONDS
    )
    baseline = time.perf_counter() - began
    _write({"kind": "baseline", "result": result, "seconds": baseline})
    if result != "survived":
        return
    limit = max(least_seconds, TIMES_BASELINE * baseline)
    for mutant in mutants_of(source, file):
        result = _run(MutantFinder(module, path, mutant.code), tests, limit)
        _write(
            {
                "kind": "mutant",
                "result": result,
                "line": mutant.line,
                "before": mutant.before,
                "after": mutant.after,
            }
        )


def _run(finder: MutantFinder, tests: Sequence[str], limit: float) -> str:
    """``survived``, ``killed``, or ``timed out`` after ``limit`` seconds."""
    child = os.fork()
    if child == 0:
        _test(finder, tests, limit)
    try:
        # Ended, but not yet gone: until it is waited for, its number is nobody else's.
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    finally:
        for kill in (os.killpg, os.kill):  # with whatever the tests had started
            with contextlib.suppress(ProcessLookupError):
                kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        return "timed out"
    return "survived" if status == 0 else "killed"


def _test(finder: MutantFinder, tests: Sequence[str], limit: float) -> None:
    """In the child: run the tests, and end the process with pytest's exit code."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silence, stream)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        signal.setitimer(signal.ITIMER_REAL, limit)  # SIGALRM ends a process that does not end
        sys.meta_path.insert(0, finder)
        code = int(pytest.main([*PYTEST, *tests]))
    finally:
        os._exit(code)


def _write(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
