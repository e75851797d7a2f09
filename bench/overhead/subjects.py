"""What is measured: jobs, the subjects that do them, and the blocks of operations they run."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, TypeAlias

import attrs

Block: TypeAlias = Callable[[int], Awaitable[None]]
"""Runs so many operations, one after the other."""

Work: TypeAlias = Callable[[], Awaitable[None]]

TURNS_TO_SETTLE = 20


class WrongSubject(Exception):
    """A subject did something else than the job it is measured at; its text says what."""


class Role(enum.Enum):
    """Whose a subject is."""

    OURS = "ours"
    PEER = "peer"
    REFERENCE = "reference"
    """What Trio itself has, which does less: shown, and held against nobody."""


class Bare(enum.Enum):
    """The same without the subject, to be subtracted."""

    LOOP = "loop"
    AWAIT = "await"
    CALL = "call"


@attrs.frozen
class Job:
    """One thing that subjects do.

    Attributes:
        bar: microseconds that ours may take at most; ``None`` where none is set.
    """

    name: str
    title: str
    bar: float | None = None


@attrs.frozen
class Stage:
    """What a subject gets to be made with.

    Attributes:
        work: the function that its operations call.
        start_soon: starts a task that lives as long as the measurement.
        turn: lets the other tasks run once.
        pause: waits for a long time.
    """

    work: Work
    start_soon: Callable[[Work], object]
    turn: Work
    pause: Work

    async def settle(self) -> None:
        """Let the tasks that were started come to where they wait, in whatever order they run."""
        for _ in range(TURNS_TO_SETTLE):
            await self.turn()


@attrs.frozen
class Subject:
    """Somebody who does a job.

    Attributes:
        package: whose it is: a package's name.
        label: what of it, as one would write it.
        prepare: makes it, in the state that the job begins with, and gives its block.
        bare: what to subtract.
        trial: what else it must be able to do before it counts as doing this job.
    """

    job: Job
    package: str
    label: str
    role: Role
    prepare: Callable[[Stage], Awaitable[Block]]
    bare: Bare = Bare.AWAIT
    trial: Callable[[Stage], Awaitable[None]] | None = None

    @property
    def name(self) -> str:
        """Unique among the subjects."""
        return f"{self.job.name}: {self.package}: {self.label}"


# --- blocks ---------------------------------------------------------------------------------------


async def nothing() -> None:
    """The work that is called on Trio: it does nothing and has no checkpoint."""


def calling(call: Callable[[Work], Awaitable[object]], work: Work) -> Block:
    """``await policy.call(work)``."""

    async def block(operations: int) -> None:
        for _ in range(operations):
            await call(work)

    return block


def decorated(function: Work) -> Block:
    """``await function()`` of a function that a policy has decorated."""

    async def block(operations: int) -> None:
        for _ in range(operations):
            await function()

    return block


def entering(policy: AbstractAsyncContextManager[Any], work: Work) -> Block:
    """``async with policy: await work()``."""

    async def block(operations: int) -> None:
        for _ in range(operations):
            async with policy:
                await work()

    return block


def entering_each(make: Callable[[], AbstractAsyncContextManager[Any]], work: Work) -> Block:
    """``async with make(): await work()``."""

    async def block(operations: int) -> None:
        for _ in range(operations):
            async with make():
                await work()

    return block


def within_each(make: Callable[[], AbstractContextManager[Any]], work: Work) -> Block:
    """``with make(): await work()``."""

    async def block(operations: int) -> None:
        for _ in range(operations):
            with make():
                await work()

    return block


def refused(call: Callable[[], Awaitable[object]], refusal: type[Exception]) -> Block:
    """``await call()``, which raises ``refusal`` each time."""

    async def block(operations: int) -> None:
        for _ in range(operations):
            try:
                await call()
            except refusal:
                continue
            raise WrongSubject("a call was let through that had to be refused")

    return block


def refused_entering(policy: AbstractAsyncContextManager[Any], refusal: type[Exception]) -> Block:
    """``async with policy: ...``, which raises ``refusal`` each time."""

    async def block(operations: int) -> None:
        for _ in range(operations):
            try:
                async with policy:
                    pass
            except refusal:
                continue
            raise WrongSubject("a call was let through that had to be refused")

    return block


def refused_within(
    make: Callable[[], AbstractContextManager[Any]], refusal: type[Exception]
) -> Block:
    """``with make(): ...``, which raises ``refusal`` each time."""

    async def block(operations: int) -> None:
        for _ in range(operations):
            try:
                with make():
                    pass
            except refusal:
                continue
            raise WrongSubject("a call was let through that had to be refused")

    return block


def deciding(
    decide: Callable[[str], object], keys: Sequence[str], has_passed: Callable[[Any], bool]
) -> Block:
    """``decide(key)`` of each key in turn; the last answer of a block has to be as expected."""
    endless = itertools.cycle(keys)

    async def block(operations: int) -> None:
        answer: object = None
        for key in itertools.islice(endless, operations):
            answer = decide(key)
        if not has_passed(answer):
            raise WrongSubject(f"the limiter answered {answer!r}")

    return block


def stepping(step: Callable[[], object]) -> Block:
    """``step()``."""

    async def block(operations: int) -> None:
        for _ in range(operations):
            step()

    return block
