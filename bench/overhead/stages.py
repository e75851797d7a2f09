"""What subjects are made with and tried on, on each of the two loops."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import attrs
import trio

from bench.failures import leaves
from bench.overhead.subjects import Role, Stage, Subject, Work, nothing

TRIAL_SECONDS = 2.0
TRIAL_OPERATIONS = 3
NOT_INSTALLED = "not installed"


@attrs.frozen
class Trial:
    """What came of trying a peer at a job.

    Attributes:
        on_trio: what went wrong on Trio; ``None`` where it works.
        on_asyncio: the same of asyncio, which is tried only where Trio did not do.
    """

    subject: Subject
    on_trio: str | None
    on_asyncio: str | None = None

    @property
    def is_measurable(self) -> bool:
        """Whether it works on one of the two."""
        return self.on_trio is None or self.on_asyncio is None


@asynccontextmanager
async def open_trio_stage() -> AsyncIterator[Stage]:
    """A stage on Trio, where work is nothing; its tasks end with the block."""
    async with trio.open_nursery() as nursery:
        yield Stage(
            work=nothing,
            start_soon=nursery.start_soon,
            turn=trio.lowlevel.checkpoint,
            pause=trio.sleep_forever,
        )
        nursery.cancel_scope.cancel()


class AsyncioWork:
    """One turn of asyncio's loop, counted."""

    def __init__(self) -> None:
        self.turns = 0

    async def __call__(self) -> None:
        """Let the loop turn once."""
        self.turns += 1
        await asyncio.sleep(0)


@asynccontextmanager
async def open_asyncio_stage(work: AsyncioWork) -> AsyncIterator[Stage]:
    """A stage on asyncio, where work is one turn of the loop: what is left for it gets done."""
    tasks: set[asyncio.Task[None]] = set()

    def start_soon(call: Work) -> None:
        async def run() -> None:
            await call()

        tasks.add(asyncio.create_task(run()))

    async def pause() -> None:
        await asyncio.sleep(3600)

    try:
        yield Stage(work=work, start_soon=start_soon, turn=AsyncioWork(), pause=pause)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def try_out(subjects: Sequence[Subject]) -> list[Trial]:
    """Try each peer on Trio, and where that fails on asyncio."""
    return [_try_one(subject) for subject in subjects if subject.role is Role.PEER]


def _try_one(subject: Subject) -> Trial:
    async def on_trio() -> None:
        with trio.fail_after(TRIAL_SECONDS):
            async with open_trio_stage() as stage:
                await _rehearse(subject, stage)

    async def on_asyncio() -> None:
        async with (
            asyncio.timeout(TRIAL_SECONDS),
            open_asyncio_stage(AsyncioWork()) as stage,
        ):
            await _rehearse(subject, stage)

    with _quiet():
        try:
            trio.run(on_trio)
        except Exception as error:  # noqa: BLE001  whatever it is, it is what was seen
            seen = describe(error)
        else:
            return Trial(subject, None)
        if seen.startswith(NOT_INSTALLED):
            return Trial(subject, seen, seen)
        try:
            asyncio.run(on_asyncio())
        except Exception as error:  # noqa: BLE001  the same
            return Trial(subject, seen, describe(error))
        return Trial(subject, seen)


async def _rehearse(subject: Subject, stage: Stage) -> None:
    block = await subject.prepare(stage)
    await block(TRIAL_OPERATIONS)
    if subject.trial is not None:
        await subject.trial(stage)


def describe(error: BaseException) -> str:
    """What went wrong, in a line; of a group the first that is in it."""
    first = next(leaves(error))
    if isinstance(first, ImportError):
        return f"{NOT_INSTALLED} ({first.name})"
    return f"{type(first).__name__}: {first}" if str(first) else type(first).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of what did not work."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
