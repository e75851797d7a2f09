"""Runs the subjects' blocks in turn and takes their processor time.

Processor time of the whole process rather than time on the wall: nothing measured here ever waits,
so on an idle machine they are the same, and on one that others use too the first is still true. A
subject that keeps a thread of its own pays for that as well.

The collector of cycles runs as it does in any program, and also before each block, and all that
lives when a round begins is kept from it: a subject pays for the cycles that it makes, and for
nothing that another has left behind or keeps.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import attrs
import trio

from bench.overhead.figures import Figure, Plan, Round, operations_for, overhead, turn
from bench.overhead.stages import AsyncioWork, open_asyncio_stage, open_trio_stage
from bench.overhead.subjects import Bare, Block, Subject, Work, nothing

BLOCK_SECONDS = 0.004
WARM_UP_OPERATIONS = 300
COUNTED_OPERATIONS = 64
YOUNG = 1
"""The generation up to which the collector looks before a block: all that is of this round."""
CHECKPOINT = "checkpoint"
"""Name of the bare block of which every operation is one full checkpoint."""

OnRound = Callable[[], None]


@attrs.frozen
class Measured:
    """What came out for one subject.

    Attributes:
        cost: microseconds an operation over the bare call.
        checkpoints: full checkpoints an operation executes; what they cost is not in ``cost``.
        is_on_trio: otherwise it ran under asyncio.
    """

    subject: Subject
    cost: Figure
    checkpoints: int
    is_on_trio: bool = True


@attrs.frozen
class Measurement:
    """All subjects of one loop, and what a bare checkpoint (a turn of the loop) costs there."""

    measured: tuple[Measured, ...]
    checkpoint: Figure


class StepCount(trio.abc.Instrument):
    """Counts how often any task has gone on."""

    def __init__(self) -> None:
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002  Trio's signature
        """Trio's call."""
        self.steps += 1


async def count_checkpoints(block: Block) -> int:
    """How many full checkpoints an operation of ``block`` has, those of its own tasks included."""
    count = StepCount()
    trio.lowlevel.add_instrument(count)
    try:
        await block(COUNTED_OPERATIONS)
    finally:
        trio.lowlevel.remove_instrument(count)
    return round(count.steps / COUNTED_OPERATIONS)


@contextmanager
def frozen_heap() -> Iterator[Callable[[], None]]:
    """Keep the collector of cycles off what is no garbage; gives what each round begins with."""

    def begin_round() -> None:
        gc.collect()
        gc.freeze()

    try:
        yield begin_round
    finally:
        gc.unfreeze()


async def time_block(block: Block, operations: int) -> int:
    """Nanoseconds of processor time that ``operations`` of ``block`` take."""
    gc.collect(YOUNG)
    began = time.process_time_ns()
    await block(operations)
    return time.process_time_ns() - began


async def measure_blocks(
    blocks: Mapping[str, Block], rounds: int, on_round: OnRound
) -> tuple[list[Round], dict[str, int]]:
    """Run every block ``rounds`` times, in turn; also says how many operations each one had."""
    operations = {}
    done = []
    names = list(blocks)
    with frozen_heap() as begin_round:
        for name, block in blocks.items():
            await block(WARM_UP_OPERATIONS)
            taken = await time_block(block, WARM_UP_OPERATIONS)
            operations[name] = operations_for(BLOCK_SECONDS, taken / 1e9 / WARM_UP_OPERATIONS)
        for number in range(rounds):
            begin_round()
            order = turn(names, number)
            done.append(Round({n: await time_block(blocks[n], operations[n]) for n in order}))
            on_round()
    return done, operations


def _bare_blocks(checkpoint: Work) -> dict[str, Block]:
    def nothing_of(key: str) -> None:
        """What a limiter is asked, without the limiter."""

    async def loop(operations: int) -> None:
        for _ in range(operations):
            pass

    async def awaiting(operations: int) -> None:
        for _ in range(operations):
            await nothing()

    async def calling(operations: int) -> None:
        for _ in range(operations):
            nothing_of("key")

    async def checkpoints(operations: int) -> None:
        for _ in range(operations):
            await checkpoint()

    return {
        Bare.LOOP.value: loop,
        Bare.AWAIT.value: awaiting,
        Bare.CALL.value: calling,
        CHECKPOINT: checkpoints,
    }


async def measure_on_trio(
    subjects: Sequence[Subject], rounds: int, on_round: OnRound
) -> Measurement:
    """Measure subjects that run on Trio; run by Trio."""
    async with open_trio_stage() as stage:
        own = {subject.name: await subject.prepare(stage) for subject in subjects}
        checkpoints = {name: await count_checkpoints(block) for name, block in own.items()}
        bare = _bare_blocks(trio.lowlevel.checkpoint)
        done, operations = await measure_blocks({**bare, **own}, rounds, on_round)
    return _measurement(subjects, checkpoints, done, operations, is_on_trio=True)


async def measure_on_asyncio(
    subjects: Sequence[Subject], rounds: int, on_round: OnRound
) -> Measurement:
    """Measure subjects that run on asyncio alone; run by asyncio."""
    work = AsyncioWork()
    async with open_asyncio_stage(work) as stage:
        own = {subject.name: await subject.prepare(stage) for subject in subjects}
        checkpoints = {}
        for name, block in own.items():
            work.turns = 0
            await block(COUNTED_OPERATIONS)
            checkpoints[name] = round(work.turns / COUNTED_OPERATIONS)
        done, operations = await measure_blocks({**_bare_blocks(work), **own}, rounds, on_round)
    return _measurement(subjects, checkpoints, done, operations, is_on_trio=False)


def _measurement(
    subjects: Sequence[Subject],
    checkpoints: Mapping[str, int],
    done: Sequence[Round],
    operations: Mapping[str, int],
    *,
    is_on_trio: bool,
) -> Measurement:
    plans = {
        subject.name: Plan(operations[subject.name], subject.bare.value, checkpoints[subject.name])
        for subject in subjects
    }
    plans[CHECKPOINT] = Plan(operations[CHECKPOINT], Bare.LOOP.value)

    def cost(name: str) -> Figure:
        return overhead(name, plans, operations, CHECKPOINT, done)

    return Measurement(
        tuple(
            Measured(subject, cost(subject.name), checkpoints[subject.name], is_on_trio)
            for subject in subjects
        ),
        cost(CHECKPOINT),
    )
