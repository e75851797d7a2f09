"""Running the subjects' blocks in turn."""

from __future__ import annotations

import gc

import pytest
import trio

from bench.overhead import jobs
from bench.overhead.harness import count_checkpoints, measure_blocks, measure_on_trio
from bench.overhead.memory import bytes_a_key
from bench.overhead.subjects import (
    Block,
    Role,
    Stage,
    Subject,
    Work,
    WrongSubject,
    calling,
    deciding,
    decorated,
    entering,
    nothing,
    refused,
    refused_entering,
    refused_within,
)


class Refusal(Exception):
    """What a subject refuses with."""


class Door:
    """A context manager, both ways, that refuses when it is shut."""

    def __init__(self, *, is_shut: bool) -> None:
        self._is_shut = is_shut

    def __enter__(self) -> None:
        if self._is_shut:
            raise Refusal

    def __exit__(self, *_: object) -> None:
        pass

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        pass


class CountingDoor(Door):
    def __init__(self) -> None:
        super().__init__(is_shut=False)
        self.entered = 0

    def __enter__(self) -> None:
        self.entered += 1


@pytest.mark.parametrize("number", [0, 1, 3])
async def test_checkpoints_are_counted(number: int) -> None:
    """As many as the operation really has."""

    async def operation() -> None:
        for _ in range(number):
            await trio.lowlevel.checkpoint()

    assert await count_checkpoints(decorated(operation)) == number


async def test_checkpoints_of_an_operations_own_tasks_count() -> None:
    """Starting a task and waiting for it takes the loop two turns, in two tasks."""

    async def operation() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(nothing)

    assert await count_checkpoints(decorated(operation)) == 2


async def test_checkpoint_that_is_no_full_one_does_not_count() -> None:
    """``checkpoint_if_cancelled`` is a cost of the subject, which is not subtracted."""
    assert await count_checkpoints(decorated(trio.lowlevel.checkpoint_if_cancelled)) == 0


async def test_blocks_take_turns() -> None:
    """Each runs once a round, the first one moving on; what was frozen is thawed in the end."""
    order: list[str] = []
    frozen: list[int] = []

    def block_of(name: str) -> Block:
        async def block(_: int) -> None:
            order.append(name)
            frozen.append(gc.get_freeze_count())

        return block

    rounds: list[None] = []
    done, operations = await measure_blocks(
        {name: block_of(name) for name in "abc"}, 3, lambda: rounds.append(None)
    )
    assert order[-9:] == list("abcbcacab")
    assert all(frozen[-9:])
    assert gc.get_freeze_count() == 0
    assert len(rounds) == 3
    assert [set(times.blocks) for times in done] == [{"a", "b", "c"}] * 3
    assert all(20 <= number <= 50_000 for number in operations.values())


async def test_measurement_gives_each_subject_its_cost() -> None:
    """With its checkpoints; and what a bare checkpoint costs."""

    async def prepare(stage: Stage) -> Block:
        return calling(Caller().call, stage.work)

    class Caller:
        async def call(self, work: Work) -> None:
            await trio.lowlevel.checkpoint()
            await work()

    subject = Subject(jobs.BREAKER, "bulkhead-trio", "call", Role.OURS, prepare)
    measurement = await measure_on_trio([subject], 3, lambda: None)
    (measured,) = measurement.measured
    assert measured.subject is subject
    assert measured.checkpoints == 1
    assert measured.is_on_trio
    assert measurement.checkpoint.median > 0


async def test_block_enters_a_policy_for_each_operation() -> None:
    """Neither more nor fewer."""
    door = CountingDoor()
    await entering(door, nothing)(7)
    assert door.entered == 7


async def test_refusals_have_to_be_refusals() -> None:
    """A subject that lets a call through where it has to refuse is no subject."""

    async def refuse() -> None:
        raise Refusal

    shut, ajar = Door(is_shut=True), Door(is_shut=False)
    await refused(refuse, Refusal)(3)
    await refused_entering(shut, Refusal)(3)
    await refused_within(lambda: shut, Refusal)(3)
    for block in (
        refused(nothing, Refusal),
        refused_entering(ajar, Refusal),
        refused_within(lambda: ajar, Refusal),
    ):
        with pytest.raises(WrongSubject):
            await block(3)


async def test_decisions_have_to_be_as_expected() -> None:
    """The keys come in turn, over blocks; a wrong answer is found."""
    asked: list[str] = []

    def decide(key: str) -> bool:
        asked.append(key)
        return True

    block = deciding(decide, ["a", "b", "c"], bool)
    await block(2)
    await block(2)
    assert asked == ["a", "b", "c", "a"]
    with pytest.raises(WrongSubject, match="True"):
        await deciding(decide, ["a"], lambda answer: not answer)(1)


def test_memory_of_a_key_is_what_is_kept_for_it() -> None:
    """What is dropped again does not count."""
    kept: dict[str, bytes] = {}

    def ask(key: str) -> None:
        kept[key] = bytes(1_000)
        bytes(100_000)

    keys = [f"key-{number}" for number in range(1_000)]
    assert 1_000 <= bytes_a_key(ask, keys) <= 1_300
