"""Container engines by their command line: what is said to them, and which one is here.

Docker and Podman understand the same words. Nothing goes through a shell, and nothing that a caller
names can be taken for an option.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import attrs
import trio

from bulkhead_trio.errors import EngineMissing
from bulkhead_trio.policies.bulkhead._children import Child, Finished, converse

ENGINES: Final = ("docker", "podman")
"""Looked for in this order; Docker's client is often there without its server."""

ANSWER_SECONDS: Final = 10.0
"""For an engine to say that it is there."""

LABEL: Final = "bulkhead-trio.bulkhead"
"""On every container that a bulkhead starts, with the bulkhead's name."""

_MOST_LOG_BYTES: Final = 65_536
# The grammar of a reference (distribution/reference): a name is never an option.
_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}")
_SIZE: Final = re.compile(r"[1-9][0-9]*[bkmg]?", re.IGNORECASE)
_NETWORK: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@attrs.frozen
class ContainerLimits:
    """What one container may use; see `ContainerBulkhead`."""

    memory: str
    cpus: float
    pids: int
    network: str
    read_only: bool

    def options(self) -> Iterable[str]:
        """The options of ``run`` that say so."""
        yield from ("--memory", self.memory, "--memory-swap", self.memory)  # so: no swap
        yield from ("--cpus", f"{self.cpus:g}", "--pids-limit", str(self.pids))
        yield from ("--network", self.network)
        if self.read_only:
            yield "--read-only"
        yield from ("--cap-drop", "ALL", "--security-opt", "no-new-privileges")
        yield from ("--stop-signal", "SIGKILL")  # or Podman's ``rm --force`` asks first, and waits


def check_limits(limits: ContainerLimits) -> None:
    """Refuse sizes and networks that are none.

    Raises:
        ValueError: with the parameter's name.
    """
    if not _SIZE.fullmatch(limits.memory):
        raise ValueError(f'memory must be like "256m" (b, k, m or g), not {limits.memory!r}')
    if not _NETWORK.fullmatch(limits.network):
        raise ValueError(f"network must be the name of one, not {limits.network!r}")


def engine_words(engine: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """The engine that is wanted, as the beginning of a command.

    Raises:
        ValueError: it is empty.
    """
    if engine is None:
        return None
    words = (engine,) if isinstance(engine, str) else tuple(engine)
    if not words or not all(words):
        raise ValueError(f"engine must be a program, or a program and its options, not {engine!r}")
    return words


def check_command(image: str, command: Sequence[str], env: Mapping[str, str]) -> None:
    """Refuse what could be taken for something else.

    Raises:
        ValueError: it says what.
    """
    if not _IMAGE.fullmatch(image):
        raise ValueError(f"image must be an image's name, not {image!r}")
    for name in env:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"env has a variable that cannot be called so: {name!r}")
    if any("\0" in word for word in (*command, *env.values())):
        raise ValueError("command and env must not have null characters")


def run_arguments(
    bulkhead: str,
    container: str,
    limits: ContainerLimits,
    image: str,
    command: Sequence[str],
    env: Mapping[str, str],
) -> list[str]:
    """What follows the engine's name to run ``command`` in a new container."""
    return [
        *("run", "--rm", "--interactive", "--name", container, "--label", f"{LABEL}={bulkhead}"),
        *limits.options(),
        *(word for name, value in env.items() for word in ("--env", f"{name}={value}")),
        image,
        *command,
    ]


async def start_client(command: Sequence[str]) -> Child:
    """Start the engine's client with pipes to it; whoever starts it ends it.

    Raises:
        OSError: it cannot be started.
    """
    pipe = subprocess.PIPE
    return await Child.start(command, stdin=pipe, stdout=pipe, stderr=pipe)


async def _run_to_end(command: Sequence[str]) -> Finished:
    child = await start_client(command)
    try:
        return await converse(child, b"", most_bytes=_MOST_LOG_BYTES)
    finally:
        await child.end()


@attrs.frozen
class Answer:
    """Whether a short command of the engine's succeeded, what it printed and what it complained."""

    is_success: bool
    output: str
    complaint: str


async def ask_engine(command: Sequence[str], seconds: float) -> Answer:
    """Run a short command of the engine's; one that takes longer than ``seconds`` is killed."""
    with trio.move_on_after(seconds):
        try:
            done = await _run_to_end(command)
        except OSError as error:
            return Answer(False, "", str(error))
        return Answer(done.exit_code == 0, readable(done.stdout), readable(done.stderr))
    return Answer(False, "", f"no answer within {seconds:g} s")


async def find_engine(wanted: Sequence[str] | None) -> tuple[str, ...]:
    """The engine that was named, or the first that answers, as the beginning of a command.

    Raises:
        EngineMissing: there is none; it says what was tried.
    """
    if wanted is not None:
        program = shutil.which(wanted[0])
        if program is None:
            raise EngineMissing(f"there is no container engine called {wanted[0]!r} here")
        return (program, *wanted[1:])
    tried = []
    for name in ENGINES:
        program = shutil.which(name)
        if program is None:
            tried.append(f"{name} is not installed")
            continue
        answer = await ask_engine((program, "version"), ANSWER_SECONDS)
        if answer.is_success:
            return (program,)
        tried.append(f"{name} does not work: {answer.complaint or 'it does not say why'}")
    raise EngineMissing("no container engine: " + "; ".join(tried))


def readable(output: bytes) -> str:
    """Output as text, whatever it is."""
    return output.decode(errors="replace").strip()
