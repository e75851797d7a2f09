"""What goes between a process bulkhead and its workers, without the processes."""

from __future__ import annotations

import functools
import math
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bulkhead_trio.errors import RemoteError
from bulkhead_trio.policies.bulkhead import _process_worker as wire
from bulkhead_trio.policies.bulkhead._children import Kept
from bulkhead_trio.policies.bulkhead._process_channel import (
    Limits,
    Reply,
    describe_end,
    pack_request,
)

HERE = wire.Main({})
LIMITS = Limits(memory_bytes=None, cpu_seconds=2.5, most_bytes=100)


def decorate(function: Callable[[int], int]) -> Callable[[int], str]:
    @functools.wraps(function)
    def decorated(number: int) -> str:
        return f"decorated {function(number)}"

    return decorated


@decorate
def double(number: int) -> int:
    return 2 * number


class Holder:
    @staticmethod
    @decorate
    def triple(number: int) -> int:
        return 3 * number


def inner(function: Callable[[int], str]) -> Callable[[int], int]:
    found: Callable[[int], int] = function.__wrapped__  # type: ignore[attr-defined]
    return found


@pytest.fixture
def _no_main_is_loaded() -> Iterator[None]:
    yield
    sys.modules.pop(wire.MAIN_MODULE, None)


# --- functions by name ---------------------------------------------------------------------------


def test_wire_carries_functions_by_name() -> None:
    """A decorated function and the one inside it are two."""
    assert wire.load(wire.dump(math.sqrt), HERE) is math.sqrt
    assert wire.load(wire.dump(double), HERE) is double
    assert wire.load(wire.dump(inner(double)), HERE) is inner(double)
    assert wire.load(wire.dump(inner(Holder.triple)), HERE) is inner(Holder.triple)
    partial = wire.load(wire.dump(functools.partial(inner(double), 4)), HERE)
    assert partial() == 8


def test_wire_does_not_carry_a_function_without_a_name() -> None:
    """It says which."""
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        wire.dump(lambda: None)


@pytest.mark.usefixtures("_no_main_is_loaded")
def test_wire_loads_the_other_sides_main_module_once(tmp_path: Path) -> None:
    """Under another name, so that it does not run as a program; one that fails is not kept."""
    script = tmp_path / "script.py"
    script.write_text("if __name__ == '__main__':\n    raise SystemExit\nvalue = object()\n")
    main = wire.Main({"__main__": wire.MAIN_MODULE}, str(script))
    data = b"c__main__\nvalue\n."
    assert wire.load(data, main) is wire.load(data, main)
    back = wire.Main({wire.MAIN_MODULE: __name__})
    assert wire.load(f"c{wire.MAIN_MODULE}\ndouble\n.".encode(), back) is double


@pytest.mark.usefixtures("_no_main_is_loaded")
def test_wire_says_what_is_wrong_with_the_other_sides_main_module(tmp_path: Path) -> None:
    """No file, a file that is no module, one that fails."""
    data = b"c__main__\nvalue\n."
    names = {"__main__": wire.MAIN_MODULE}
    with pytest.raises(pickle.UnpicklingError, match="has no file"):
        wire.load(data, wire.Main(names))
    with pytest.raises(pickle.UnpicklingError, match="no module"):
        wire.load(data, wire.Main(names, str(tmp_path / "notes.txt")))
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0\n")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            wire.load(data, wire.Main(names, str(broken)))


# --- requests and answers ------------------------------------------------------------------------


def ask(work: Callable[..., object], *args: object) -> Reply:
    request = pack_request(work, args, most_bytes=10_000)
    (length,) = wire.HEADER.unpack_from(request)
    body = request[wire.HEADER.size :]
    assert len(body) == length
    return Reply(*wire.answer(body, HERE))


def test_request_is_answered_with_the_result() -> None:
    """What the function returns."""
    assert ask(math.hypot, 3.0, 4.0).unwrap(7) == 5.0
    assert not ask(math.hypot, 3.0, 4.0).is_out_of_memory


def test_request_is_answered_with_the_error() -> None:
    """The error itself, with a note that says where; out of memory is told apart."""
    reply = ask(divmod, 1, 0)
    with pytest.raises(ZeroDivisionError) as caught:
        reply.unwrap(7)
    assert caught.value.__notes__[0].startswith("In worker process 7:\n\nTraceback")
    assert not reply.is_out_of_memory
    assert ask(bytearray, sys.maxsize - 1).is_out_of_memory


def test_request_that_cannot_be_read_is_answered() -> None:
    """The worker goes on."""
    reply = Reply(*wire.answer(b"nonsense", HERE))
    with pytest.raises(RemoteError, match="worker process 7 could not load") as caught:
        reply.unwrap(7)
    assert caught.value.type_name.endswith("UnpicklingError")


def test_answer_that_cannot_be_read_here_says_so() -> None:
    """It is an error of the call."""
    with pytest.raises(RemoteError, match="cannot be read here"):
        Reply("returned", b"nonsense", "", "", "").unwrap(7)


@pytest.mark.parametrize("data", [b"nonsense", wire.dump("no error at all"), b""])
def test_error_that_cannot_be_read_here_is_described(data: bytes) -> None:
    """By its type and its text."""
    with pytest.raises(RemoteError, match=r"raised a\.B: text, which cannot be sent") as caught:
        Reply("raised", data, "a.B", "text", "").unwrap(7)
    assert (caught.value.type_name, caught.value.text) == ("a.B", "text")


def test_request_has_a_longest_length() -> None:
    """Just as long is not too long."""
    length = len(wire.dump((len, (b"x",))))
    assert pack_request(len, (b"x",), most_bytes=length)
    with pytest.raises(ValueError, match=f"{length} bytes are more than the {length - 1}"):
        pack_request(len, (b"x",), most_bytes=length - 1)


# --- how a process ended -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returncode", "exit_code", "name", "says"),
    [
        (0, 0, None, "exited with code 0"),
        (3, 3, None, "exited with code 3"),
        (-signal.SIGSEGV, None, "SIGSEGV", "ended by SIGSEGV"),
        (-signal.SIGKILL, None, "SIGKILL", "memory runs out"),
        (-signal.SIGXCPU, None, "SIGXCPU", r"more than 2\.5 s of CPU time"),
        (-1000, None, "signal 1000", "ended by signal 1000"),
        (None, None, None, "cannot be killed"),
    ],
)
def test_end_of_a_process_is_described(
    returncode: int | None, exit_code: int | None, name: str | None, says: str
) -> None:
    """By its exit code or its signal."""
    crash = describe_end(returncode, LIMITS, subject="it")
    assert (crash.exit_code, crash.signal) == (exit_code, name)
    with pytest.raises(type(crash), match=f"^it .*{says}"):
        raise crash


@pytest.mark.parametrize(
    ("is_tail", "chunks", "data", "is_truncated"),
    [
        (False, [b"abc"], b"abc", False),
        (False, [b"abcd"], b"abc", True),
        (False, [b"ab", b"cd", b"e"], b"abc", True),
        (True, [b"abc"], b"abc", False),
        (True, [b"ab", b"cd", b"e"], b"cde", True),
    ],
)
def test_output_is_kept_to_its_bound(
    is_tail: bool, chunks: list[bytes], data: bytes, is_truncated: bool
) -> None:
    """The first bytes or the last ones."""
    kept = Kept(3, is_tail=is_tail)
    for chunk in chunks:
        kept.add(chunk)
    assert (bytes(kept.data), kept.is_truncated) == (data, is_truncated)
