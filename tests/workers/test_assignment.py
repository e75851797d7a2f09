"""The line between the main process and a worker: whole frames, and an end that is noticed."""

from __future__ import annotations

import pickle

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.app import Ground
from bulkhead_trio.config import load_settings
from bulkhead_trio.workers.assignment import MOST_FRAME_BYTES, Assignment, Line


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_frames_arrive_as_they_were_sent(frames: list[bytes]) -> None:
    """Empty ones too, however the bytes are cut on the way; then the end."""

    async def main() -> None:
        ours, theirs = trio.testing.lockstep_stream_pair()
        received: list[bytes] = []

        async def send() -> None:
            line = Line(ours)
            for frame in frames:
                await line.send(frame)
            await line.aclose()

        async def receive() -> None:
            line = Line(theirs)
            while (frame := await line.receive()) is not None:
                received.append(frame)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            nursery.start_soon(receive)
        assert received == frames

    trio.run(main)


@pytest.mark.parametrize(
    "data",
    [b"", b"\0\0", b"\0\0\0\2a", (MOST_FRAME_BYTES + 1).to_bytes(4, "big") + b"xx"],
)
async def test_line_that_ends_or_talks_nonsense_has_no_frame(data: bytes) -> None:
    """Half a frame is none, and no length makes it wait for more than it would take."""
    ours, theirs = trio.testing.memory_stream_pair()
    await ours.send_all(data)
    await ours.send_eof()
    with trio.fail_after(1):
        assert await Line(theirs).receive() is None


async def test_line_whose_other_side_was_cut_off_has_no_frame() -> None:
    """A main process that was killed is gone like one that has left."""
    ours, theirs = trio.testing.memory_stream_pair()
    await ours.aclose()
    with trio.fail_after(1):
        assert await Line(theirs).receive() is None
    with pytest.raises(trio.BrokenResourceError):
        await Line(theirs).send(b"")


def test_assignment_survives_the_way_and_hides_its_secrets() -> None:
    """Every setting arrives; what may be logged of it shows no secret."""
    settings = load_settings(
        environ={"SECRET_KEY": "very-secret-indeed", "BIND": "unix:/a,:80,fd://3", "WORKERS": "2"},
        overrides={},
    )
    ground = Ground("postgresql://u:hidden@h/db", "admin-secret", "pepper-of-keys")
    sent = Assignment(1, settings, ground, {"public": (5,)}, "/tmp/x", None)
    assert pickle.loads(pickle.dumps(sent)) == sent  # noqa: S301
    for secret in ("very-secret-indeed", "hidden", "admin-secret", "pepper-of-keys"):
        assert secret not in repr(sent)
