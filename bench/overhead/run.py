"""The whole measurement, step by step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import attrs
import trio

from bench.overhead import ours
from bench.overhead.exactness import Finding, run_experiments
from bench.overhead.harness import Measurement, measure_on_asyncio, measure_on_trio
from bench.overhead.jobs import JOBS
from bench.overhead.memory import KeyMemory, measure_key_memory
from bench.overhead.peers import breakers, bulkheads, limiters, others
from bench.overhead.stages import Trial, try_out
from bench.overhead.subjects import Subject
from bench.overhead.verdict import contests, judge
from bench.verdict import Verdict

PEERS = (
    "aiobreaker",
    "aiolimiter",
    "bulkman",
    "hyx",
    "limits",
    "purgatory",
    "pybreaker",
    "stamina",
    "tenacity",
)
PACKAGES = ("bulkhead-trio", "trio", "anyio", *PEERS)

OnStep = Callable[[str], None]
OnRound = Callable[[], None]


@attrs.frozen
class Gathered:
    """What was measured, and what is to be said of it."""

    on_trio: Measurement
    on_asyncio: Measurement | None
    trials: tuple[Trial, ...]
    memory: tuple[KeyMemory, ...]
    findings: tuple[Finding, ...]

    def judged(self, warnings: Sequence[str]) -> Verdict:
        """The verdict, with what else there is to note."""
        others = () if self.on_asyncio is None else self.on_asyncio.measured
        found = contests(JOBS, [*self.on_trio.measured, *others])
        verdict = judge(found, self.memory, self.findings, self.trials, ours.PACKAGE)
        return Verdict(verdict.failures, (*warnings, *verdict.warnings))


def peers() -> list[Subject]:
    """All subjects of others."""
    return [
        subject
        for module in (breakers, bulkheads, limiters, others)
        for subject in module.subjects()
    ]


def gather(rounds: int, on_step: OnStep, on_round: OnRound) -> Gathered:
    """Measure everything: try the peers, then the experiments, the memory, and the speed.

    Raises:
        WrongSubject: a subject did something else than its job.
    """
    on_step("trying the peers")
    trials = try_out(peers())
    on_step("experiments")
    findings = experiment()
    on_step("memory")
    memory = trio.run(measure_key_memory)
    on_step("speed on Trio")
    there = [trial.subject for trial in trials if trial.on_trio is None]
    on_trio = trio.run(measure_on_trio, [*ours.subjects(), *there], rounds, on_round)
    on_step("speed on asyncio")
    elsewhere = [t.subject for t in trials if t.on_trio is not None and t.is_measurable]
    on_asyncio = None
    if elsewhere:
        on_asyncio = asyncio.run(measure_on_asyncio(elsewhere, rounds, on_round))
    return Gathered(on_trio, on_asyncio, tuple(trials), tuple(memory), tuple(findings))


def experiment() -> list[Finding]:
    """The experiments alone: what breakers and bulkheads do, ours and the peers'."""
    return trio.run(
        run_experiments,
        [*breakers.OURS, *breakers.PEERS],
        [*bulkheads.OURS, *bulkheads.PEERS],
    )
