"""The container bulkhead with a real engine, where this machine has one."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from bulkhead_trio.errors import ContainerFailed
from bulkhead_trio.policies.bulkhead.containers import ContainerBulkhead

IMAGE = "localhost/bulkhead-trio-busybox:test"
PROGRAMS = ("sh", "cat", "echo", "sleep", "true", "ls", "dd", "touch", "id")
SLEEP = "86399"
"""Seconds, and how the sleepers are told from those of others."""
PATIENCE_SECONDS = 60.0
"""A test that comes to it has failed."""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def make_root(directory: Path, busybox: str) -> Path:
    """A tar of a root file system with nothing but busybox."""
    programs = directory / "rootfs" / "bin"
    programs.mkdir(parents=True)
    shutil.copy(busybox, programs / "busybox")
    for name in PROGRAMS:
        (programs / name).symlink_to("busybox")
    archive = directory / "rootfs.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(directory / "rootfs", arcname=".")
    return archive


def configure_podman(directory: Path) -> dict[str, str]:
    """Storage of its own, and what works without systemd and without a network.

    crun wants cgroup features that a container that tests run in often lacks; runc does not.
    Podman's own ulimits may be more than this process is allowed to give.
    """
    ulimits = []
    for name, kind in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        hard = resource.getrlimit(kind)[1]
        most = 4096 if hard == resource.RLIM_INFINITY else min(hard, 4096)
        ulimits.append(f"{name}={most}:{most}")
    (directory / "containers.conf").write_text(
        f"[containers]\ndefault_ulimits = {json.dumps(ulimits)}\n"
        '[engine]\ncgroup_manager = "cgroupfs"\nruntime = "runc"\nevents_logger = "file"\n'
        f'tmp_dir = "{directory}/tmp"\n'
    )
    (directory / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{directory}/root"\nrunroot = "{directory}/run"\n'
    )
    return {
        "CONTAINERS_CONF": str(directory / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(directory / "storage.conf"),
    }


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    """The first engine that can run a container of a busybox image; Podman with its own storage."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("no busybox to make an image of")
    reasons = []
    with tempfile.TemporaryDirectory(prefix="engine-") as name, pytest.MonkeyPatch.context() as env:
        directory = Path(name)
        archive = make_root(directory, busybox)
        for variable, value in configure_podman(directory).items():
            env.setenv(variable, value)
        for program in ("podman", "docker"):
            reason = why_not(program, archive)
            if reason is None:
                yield program
                run(program, "rmi", "--force", IMAGE)
                return
            reasons.append(f"{program}: {reason}")
    pytest.skip("no container engine works here: " + "; ".join(reasons))


def why_not(program: str, archive: Path) -> str | None:
    """Why an engine cannot be tested with; ``None`` if it can."""
    if shutil.which(program) is None:
        return "not installed"
    for command in (
        (program, "import", str(archive), IMAGE),
        (program, "run", "--rm", "--network", "none", IMAGE, "true"),
    ):
        done = run(*command)
        if done.returncode != 0:
            return done.stderr.strip()
    return None


def left(engine: str) -> list[str]:
    """The containers that our label is on."""
    names = run(engine, "ps", "--all", "--filter", "label=bulkhead-trio.bulkhead", "-q")
    assert names.returncode == 0
    return names.stdout.split()


@pytest.fixture
def bulkhead(engine: str) -> Iterator[ContainerBulkhead]:
    bulkhead = ContainerBulkhead("jobs", 2, engine=engine, memory="64m", cpus=0.5, pids=16)
    yield bulkhead
    assert left(engine) == []
    assert bulkhead.statistics().active == 0


async def test_engine_runs_a_command(bulkhead: ContainerBulkhead) -> None:
    """Input, environment and output, and an exit code that is not 0."""
    script = 'cat; echo "$WORD"; echo aside >&2'
    result = await bulkhead.run(IMAGE, "sh", "-c", script, stdin=b"in\n", env={"WORD": "x y"})
    assert (result.stdout, result.stderr) == (b"in\nx y\n", b"aside\n")
    with pytest.raises(ContainerFailed, match="ended with exit code 3: sorry") as caught:
        await bulkhead.run(IMAGE, "sh", "-c", "echo sorry >&2; exit 3")
    assert caught.value.exit_code == 3


async def test_engine_keeps_to_the_limits(bulkhead: ContainerBulkhead) -> None:
    """No network but its own, nothing to write to, no capabilities and no way to more."""
    script = "ls /sys/class/net; touch /bin/x; cat /proc/self/status"
    result = await bulkhead.run(IMAGE, "sh", "-c", script)
    assert result.stdout.split()[0] == b"lo"
    status = dict(line.split(b":\t", 1) for line in result.stdout.splitlines() if b":\t" in line)
    assert int(status[b"CapEff"], 16) == 0
    assert int(status[b"NoNewPrivs"]) == 1
    assert b"Read-only file system" in result.stderr
    with pytest.raises(ContainerFailed):
        await bulkhead.run(
            IMAGE, "sh", "-c", "for i in $(seq 40); do sleep 5 & done; wait || exit 1"
        )


async def test_engine_ends_what_takes_too_much_memory(bulkhead: ContainerBulkhead) -> None:
    """The command is ended, and the container with it."""
    with pytest.raises(ContainerFailed) as caught:
        await bulkhead.run(IMAGE, "dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1")
    assert caught.value.exit_code == 137


async def test_engine_stops_a_flood_of_processes(bulkhead: ContainerBulkhead) -> None:
    """There are as many as were allowed, and no more."""
    script = "i=0; while [ $i -lt 40 ]; do sleep 1 & i=$((i + 1)); echo $i; done; exit 0"
    with pytest.raises(ContainerFailed, match="fork") as caught:
        await bulkhead.run(IMAGE, "sh", "-c", script)
    assert caught.value.exit_code is not None


async def test_engine_says_what_it_cannot_start(bulkhead: ContainerBulkhead) -> None:
    """A program that is not in the image."""
    with pytest.raises(ContainerFailed, match="no-such-program") as caught:
        await bulkhead.run(IMAGE, "no-such-program")
    assert caught.value.exit_code == 127


@pytest.mark.parametrize("milliseconds", [*range(0, 240, 20), 400])
async def test_engine_leaves_nothing_of_a_cancelled_call(
    engine: str, bulkhead: ContainerBulkhead, milliseconds: int
) -> None:
    """Whenever it is cancelled: while the engine makes the container, starts it, or runs it."""
    with trio.fail_after(PATIENCE_SECONDS):
        with trio.move_on_after(milliseconds / 1000) as scope:
            await bulkhead.run(IMAGE, "sleep", SLEEP)
    assert scope.cancelled_caught
    assert left(engine) == []
    assert not sleepers(), "a process of the container is left"


def sleepers() -> list[str]:
    """Processes of the image's command, or of the runtime that was about to become it."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", SLEEP.encode()] or words[:2] == [b"runc", b"init"]:
            found.append(entry)
    return found
