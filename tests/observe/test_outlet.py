"""Log lines and a reader that stalls: nobody waits, what is dropped is said, lines stay whole."""

from __future__ import annotations

import io
import os
import pty
import socket
import stat
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import attrs
import pytest
import trio
import trio.testing

from bulkhead_trio.observe import outlet as outlet_module
from bulkhead_trio.observe.outlet import ATOMIC_BYTES, RETRY_SECONDS, Outlet

LINE = b"x" * 99
MANY = 3000
"""Of such lines: more than a pipe, a terminal or a socket takes."""


@attrs.define
class Reader:
    """Both ends of something that an outlet writes to."""

    stream: TextIO
    descriptor: int

    def read(self) -> bytes:
        """All that is there."""
        os.set_blocking(self.descriptor, False)
        data = b""
        while True:
            try:
                piece = os.read(self.descriptor, 65536)
            except BlockingIOError:
                return data
            if not piece:
                return data
            data += piece


def pipe(_: Path) -> tuple[int, int]:
    return os.pipe()


def fifo(directory: Path) -> tuple[int, int]:
    os.mkfifo(directory / "fifo")
    reading = os.open(directory / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    return reading, os.open(directory / "fifo", os.O_WRONLY)


def terminal(_: Path) -> tuple[int, int]:
    reading, writing = pty.openpty()
    settings = termios.tcgetattr(writing)
    settings[1] &= ~termios.OPOST  # a line's end stays one byte
    termios.tcsetattr(writing, termios.TCSANOW, settings)
    return reading, writing


def unix_socket(_: Path) -> tuple[int, int]:
    one, other = socket.socketpair()
    return one.detach(), other.detach()


@pytest.fixture(params=[pipe, fifo, terminal, unix_socket])
def reader(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reader]:
    reading, writing = request.param(tmp_path)
    with os.fdopen(writing, "w") as stream:
        yield Reader(stream, reading)
    os.close(reading)


@pytest.fixture
def small_reader() -> Iterator[Reader]:
    """A pipe."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        yield Reader(stream, reading)
    os.close(reading)


def numbered(first: int, last: int) -> list[bytes]:
    return [b"%07d" % number for number in range(first, last)]


def test_stalled_reader_holds_nobody_up(reader: Reader) -> None:
    """Many times what it takes is written at once; it is kept, and read in its order."""
    outlet = Outlet(reader.stream)
    assert outlet.can_stall
    lines = [b"%099d" % number for number in range(MANY)]
    for start in range(0, MANY, 100):
        outlet.write_lines(lines[start : start + 100])
    assert outlet.waiting_bytes > 0
    got = reader.read()
    while outlet.waiting_bytes:
        outlet.push()
        got += reader.read()
    assert got.splitlines() == lines
    assert outlet.dropped == 0


def test_stalled_reader_shares_a_description_that_stays_as_it_was(reader: Reader) -> None:
    """Whoever else has inherited the descriptor does not get one that no longer blocks."""
    Outlet(reader.stream).write_lines([LINE] * MANY)
    assert os.get_blocking(reader.stream.fileno())


def test_description_that_cannot_be_opened_again_is_polled(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system does not allow it, nobody waits either."""

    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)
    outlet = Outlet(reader.stream)
    monkeypatch.undo()
    outlet.write_lines([LINE] * MANY)
    assert outlet.waiting_bytes > 0
    got = reader.read()
    while outlet.waiting_bytes:
        outlet.push()
        got += reader.read()
    assert got.splitlines() == [LINE] * MANY


def test_lines_beyond_the_bound_are_dropped_and_counted(small_reader: Reader) -> None:
    """The first ones are kept; how many are missing is said in their place, then it goes on."""
    outlet = Outlet(
        small_reader.stream,
        on_dropped=lambda lines: outlet.write(f"{lines} are missing\n"),
        most_waiting=8000,
    )
    for line in numbered(0, 20_000):
        outlet.write_lines([line])
    assert outlet.waiting_bytes <= 8000
    dropped = outlet.dropped
    assert dropped > 0
    got = small_reader.read()
    outlet.push()
    outlet.write_lines([b"back"])
    got += small_reader.read()
    kept = 20_000 - dropped
    expected = [*numbered(0, kept), b"%d are missing" % dropped, b"back"]
    assert got.splitlines() == expected
    assert outlet.dropped == dropped


def test_gap_is_said_once_and_not_before_half_is_read(small_reader: Reader) -> None:
    """A reader that is merely slow is not told of each single line."""
    said: list[int] = []
    outlet = Outlet(small_reader.stream, on_dropped=said.append, most_waiting=8000)
    outlet.write_lines([LINE] * MANY)
    for _ in range(100):
        outlet.write_lines([LINE])
        outlet.push()
    assert said == []
    dropped = outlet.dropped
    small_reader.read()
    outlet.push()
    outlet.push()
    assert said == [dropped]


def test_reader_that_has_gone_costs_lines_only(reader: Reader) -> None:
    """What nobody can ever read is dropped and counted."""
    outlet = Outlet(reader.stream)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), reader.descriptor)
    for _ in range(100):
        outlet.write_lines([LINE] * 10)
    assert outlet.waiting_bytes == 0
    assert outlet.dropped == 1000


def test_lines_of_several_writers_stay_whole(small_reader: Reader) -> None:
    """Processes share one pipe: what is written at once is no more than stays in one piece."""
    writers = [Outlet(small_reader.stream) for _ in range(4)]
    lines = [bytes([65 + number]) * 700 for number in range(4)]
    got = b""

    def write(number: int) -> None:
        for _ in range(20):
            writers[number].write_lines([lines[number]] * 17)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or any(w.waiting_bytes for w in writers):
        got += small_reader.read()
        for writer in writers:
            writer.push()
    for thread in threads:
        thread.join()
    got += small_reader.read()
    assert sorted(got.splitlines()) == sorted(line for line in lines for _ in range(340))


def test_line_longer_than_a_piece_is_written_whole(small_reader: Reader) -> None:
    """It may be mixed with another process's, but nothing of it is lost."""
    outlet = Outlet(small_reader.stream)
    long = b"y" * (ATOMIC_BYTES * 40)
    outlet.write_lines([b"before", long, b"after"])
    got = small_reader.read()
    while outlet.waiting_bytes:
        outlet.push()
        got += small_reader.read()
    assert got.splitlines() == [b"before", long, b"after"]


def test_file_is_written_to_directly(tmp_path: Path) -> None:
    """A file makes nobody wait for a reader, and has no limit."""
    with (tmp_path / "log").open("w") as stream:
        outlet = Outlet(stream)
        assert not outlet.can_stall
        outlet.write_lines([LINE] * MANY)
        outlet.write("one\ntwo\n")
        assert (tmp_path / "log").read_bytes() == (LINE + b"\n") * MANY + b"one\ntwo\n"
        assert stat.S_ISREG(os.fstat(stream.fileno()).st_mode)


def test_line_that_cannot_be_written_is_counted() -> None:
    """A full disk costs the line, and nothing else."""

    class Full(io.StringIO):
        def write(self, *_: str) -> int:
            raise OSError(28, "No space left on device")

    outlet = Outlet(Full())
    outlet.write("lost\n")
    outlet.write_lines([b"lost", b"too"])
    assert outlet.dropped == 3


async def test_lines_that_wait_are_written_without_another(
    small_reader: Reader, autojump_clock: trio.abc.Clock
) -> None:
    """A quiet server's last lines come as soon as they are read again."""
    outlet = Outlet(small_reader.stream)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outlet.run)
        outlet.write_lines([LINE] * MANY)
        got = 0
        began = trio.current_time()
        while outlet.waiting_bytes:
            got += len(small_reader.read())
            await trio.sleep(RETRY_SECONDS)
        got += len(small_reader.read())
        assert got == 100 * MANY
        assert trio.current_time() - began < 10
        nursery.cancel_scope.cancel()


def test_end_gives_a_slow_reader_a_moment(
    small_reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that never reads no more than that."""
    outlet = Outlet(small_reader.stream)
    outlet.write_lines([LINE] * MANY)
    thread = threading.Thread(target=outlet.finish)
    thread.start()
    got = 0
    while thread.is_alive():
        got += len(small_reader.read())
    thread.join()
    assert got + len(small_reader.read()) == 100 * MANY
    outlet.write_lines([LINE] * MANY)
    monkeypatch.setattr(outlet_module, "LAST_SECONDS", 0.02)
    outlet.finish()
    assert outlet.waiting_bytes > 0


def test_characters_that_the_stream_cannot_say_are_escaped(small_reader: Reader) -> None:
    """An encoding that lacks them is no error."""
    with os.fdopen(os.dup(small_reader.stream.fileno()), "w", encoding="ascii") as stream:
        Outlet(stream).write("naïve \ud800\n")
    assert small_reader.read() == b"na\\xefve \\ud800\n"
