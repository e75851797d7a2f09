"""A stand-in for the command line of Docker or Podman: it notes what it is told, and acts.

It is a script of its own, since the bulkhead starts it as a program. What ``run`` does is the
image's name; a container is a file that ``rm`` takes away.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

_SCRIPT = r"""
import json, os, signal, sys, time
here = os.path.dirname(os.path.abspath(__file__))
words = sys.argv[1:]

def path(*names):
    return os.path.join(here, *names)

def has(name):
    return os.path.exists(path(name))

def value(option):
    return words[words.index(option) + 1]

def fail(code, text):
    sys.stderr.write(text + "\n")
    sys.exit(code)

with open(path("calls"), "a") as calls:
    calls.write(json.dumps(words) + "\n")

if words[0] == "version":
    if has("silent"):
        time.sleep(1000)
    if has("no-server"):
        fail(1, "Cannot connect to the server")
elif words[0] == "rm":
    container = path("container." + words[2])
    if has("broken"):
        fail(1, "the disk is full")
    if not os.path.exists(container):
        if has("lenient"):
            sys.exit(0)
        if has("hasty"):
            print(words[2])
            sys.exit(0)
        fail(1, "Error: No such container: " + words[2])
    os.unlink(container)
    print(words[2])
elif words[0] == "run":
    image = next(n for n, word in enumerate(words) if word.startswith("image/"))
    kind, command = words[image], words[image + 1:]
    container = path("container." + value("--name"))
    def make():
        open(container, "w").close()
    def slow(*_):
        time.sleep(0.2)
        make()
        os._exit(143)
    if kind == "image/late":
        signal.signal(signal.SIGTERM, slow)
        open(path("started"), "w").write(str(os.getpid()))
        time.sleep(1000)
    if kind == "image/absent":
        fail(125, "image not known")
    make()
    if kind == "image/cat":
        sys.stdout.buffer.write(sys.stdin.buffer.read())
        sys.stdout.buffer.write(" ".join(command).encode())
    elif kind == "image/fail":
        sys.stdout.write(command[1])
        sys.stdout.flush()
        os.unlink(container)
        fail(int(command[0]), command[2])
    elif kind == "image/half":
        fail(125, "could not start it")
    elif kind == "image/lost":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind in ("image/sleep", "image/stubborn"):
        # Like Podman's client: a signal is the container's affair, and that ignores it.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open(path("started"), "w").write(str(os.getpid()))
        while kind == "image/stubborn" or os.path.exists(container):
            time.sleep(0.005)
        sys.exit(137)
    os.unlink(container)
"""


class StandIn:
    """An engine in a directory of its own.

    Args:
        directory: where it is put, notes what it is told, and keeps its containers.
        name: what the program is called.
    """

    def __init__(self, directory: Path, name: str = "docker") -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.program = directory / name
        self.program.write_text(f"#!{sys.executable} -IS\n{_SCRIPT}")
        self.program.chmod(0o755)

    def set(self, *names: str) -> None:
        """``silent``, ``no-server``, ``broken``, ``lenient`` or ``hasty`` from now on."""
        for name in names:
            (self.directory / name).touch()

    def calls(self, command: str) -> list[list[str]]:
        """How it was called with ``command``."""
        file = self.directory / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        calls: list[list[str]] = [json.loads(line) for line in lines]
        return [words for words in calls if words[0] == command]

    def containers(self) -> list[str]:
        """Those that are there."""
        return [name for name in os.listdir(self.directory) if name.startswith("container.")]
