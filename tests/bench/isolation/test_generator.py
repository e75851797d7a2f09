"""The near side of a load generator, with memory streams in the place of its process."""

from __future__ import annotations

import msgspec
import pytest
import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, memory_stream_one_way_pair

from bench.isolation.generator import LATE_SECONDS, Generator, GeneratorFailed
from bench.isolation.messages import Finished, Message, Progress, Ready, Recording, Sample

FINISHED = Finished([Recording("pro", [Sample(0.0, 0.0, 0.25, 200, "")])], 0.5)


def line(message: Message) -> bytes:
    return msgspec.json.encode(message) + b"\n"


def make_generator() -> tuple[Generator, MemoryReceiveStream, MemorySendStream]:
    orders, process_in = memory_stream_one_way_pair()
    process_out, messages = memory_stream_one_way_pair()
    return Generator(orders, messages), process_in, process_out


async def test_generator_delivers_progress_and_samples_however_they_are_cut(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Messages are put together from pieces, and several in one piece are all read."""
    generator, process_in, process_out = make_generator()
    stream = line(Ready()) + line(Progress(7)) + line(Progress(9)) + line(FINISHED)
    progress: list[int] = []

    async def speak() -> None:
        for start in range(0, len(stream), 50):
            await process_out.send_all(stream[start : start + 50])
            await trio.sleep(0.1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(speak)
        await generator.wait_ready()
        assert await generator.run(123.25, 10.0, progress.append) == FINISHED
    assert progress == [7, 9]
    assert await process_in.receive_some() == b"123.25\n"


async def test_generator_that_ends_early_is_a_failure(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Half a message is no message."""
    generator, _, process_out = make_generator()
    await process_out.send_all(line(Ready()) + line(FINISHED)[:-10])
    await process_out.aclose()
    await generator.wait_ready()
    with pytest.raises(GeneratorFailed, match="ended before its time"):
        await generator.run(0.0, 10.0, lambda _: None)


async def test_generator_that_falls_silent_is_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The wait for the samples is bounded by the plan's length and an allowance."""
    generator, _, process_out = make_generator()
    await process_out.send_all(line(Ready()))
    await generator.wait_ready()
    began = trio.current_time()
    with pytest.raises(GeneratorFailed, match="did not deliver"):
        await generator.run(0.0, 10.0, lambda _: None)
    assert trio.current_time() - began == pytest.approx(10.0 + LATE_SECONDS)


async def test_generator_that_never_gets_ready_is_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The wait for a start is bounded too."""
    generator, _, _process_out = make_generator()
    with pytest.raises(GeneratorFailed, match="ready"):
        await generator.wait_ready()
