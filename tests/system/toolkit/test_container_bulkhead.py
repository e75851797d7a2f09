"""The container bulkhead against a scripted engine."""

from __future__ import annotations

import itertools
import logging
import math
from functools import partial
from pathlib import Path

import pytest
import trio

from bulkhead_trio.errors import BulkheadFull, ContainerFailed, EngineMissing, QueueTimeout
from bulkhead_trio.policies.bulkhead import _engines, containers
from bulkhead_trio.policies.bulkhead._children import Finished
from bulkhead_trio.policies.bulkhead.bulkhead import BulkheadEntered, BulkheadLeft
from bulkhead_trio.policies.bulkhead.containers import (
    ContainerBulkhead,
    ContainerBulkheadEvent,
    ContainerEnded,
    ContainerStarted,
)
from bulkhead_trio.policies.policy import Kind
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations

from ._processes import PATIENCE_SECONDS, child_processes, open_files, wait_written
from ._stand_in import StandIn

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.fixture
def engine(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path / "engine")


@pytest.fixture
def bulkhead(engine: StandIn) -> ContainerBulkhead:
    return ContainerBulkhead("jobs", 1, engine=str(engine.program))


# --- what is said to the engine ------------------------------------------------------------------


async def test_container_is_run_with_its_limits(
    engine: StandIn, bulkhead: ContainerBulkhead
) -> None:
    """Every limit is an option, the image comes after the last, and the command as it is."""
    await bulkhead.run("image/cat", "sh", "-c", "echo $HOME; rm", "--", env={"A": "x y", "B": ""})
    (words,) = engine.calls("run")
    name = words[words.index("--name") + 1]
    assert name.startswith("bulkhead-trio-")
    assert words == [
        *("run", "--rm", "--interactive", "--name", name),
        *("--label", "bulkhead-trio.bulkhead=jobs"),
        *("--memory", "256m", "--memory-swap", "256m", "--cpus", "1", "--pids-limit", "64"),
        *("--network", "none", "--read-only", "--cap-drop", "ALL"),
        *("--security-opt", "no-new-privileges", "--stop-signal", "SIGKILL"),
        *("--env", "A=x y", "--env", "B="),
        *("image/cat", "sh", "-c", "echo $HOME; rm", "--"),
    ]
    assert engine.calls("rm") == []


async def test_container_limits_can_be_changed(engine: StandIn) -> None:
    """An engine with options of its own keeps them in front."""
    bulkhead = ContainerBulkhead(
        "jobs",
        1,
        engine=("env", str(engine.program)),
        memory="1G",
        cpus=0.25,
        pids=7,
        network="inside",
        read_only=False,
    )
    await bulkhead.run("image/cat")
    (words,) = engine.calls("run")
    options = dict(itertools.pairwise(words))
    assert (options["--memory"], options["--memory-swap"]) == ("1G", "1G")
    assert (options["--cpus"], options["--pids-limit"]) == ("0.25", "7")
    assert options["--network"] == "inside"
    assert "--read-only" not in words


async def test_containers_have_names_of_their_own(
    engine: StandIn, bulkhead: ContainerBulkhead
) -> None:
    """The same command twice is two containers; which engine is used is found out once."""
    await bulkhead.run("image/cat")
    await bulkhead.run("image/cat")
    first, second = engine.calls("run")
    assert first != second
    assert bulkhead.statistics().started == 2


@pytest.mark.parametrize(
    ("image", "command", "env", "says"),
    [
        ("--privileged", (), {}, "image"),
        ("", (), {}, "image"),
        ("a b", (), {}, "image"),
        ("image/cat\n", (), {}, "image"),
        ("x" * 513, (), {}, "image"),
        ("image/cat", ("a\0b",), {}, "null"),
        ("image/cat", (), {"A": "\0"}, "null"),
        ("image/cat", (), {"A=B": "1"}, "A=B"),
        ("image/cat", (), {"": "1"}, "env"),
        ("image/cat", (), {"--x": "1"}, "--x"),
    ],
)
async def test_container_that_cannot_be_meant_is_refused(
    engine: StandIn,
    bulkhead: ContainerBulkhead,
    image: str,
    command: tuple[str, ...],
    env: dict[str, str],
    says: str,
) -> None:
    """Nothing that is named can be taken for an option; the engine never hears of it."""
    with pytest.raises(ValueError, match=says):
        await bulkhead.run(image, *command, env=env)
    assert engine.calls("run") == []
    assert bulkhead.statistics().completed == 0


@pytest.mark.parametrize("image", ["x" * 512, "localhost:5000/a/b:1.2-x", "a@sha256:00ff"])
def test_container_image_has_the_names_that_images_have(image: str) -> None:
    """With a registry, a tag, a digest."""
    _engines.check_command(image, (), {"_A1": "x\ny"})


# --- what comes back -----------------------------------------------------------------------------


async def test_container_result_is_what_it_writes(bulkhead: ContainerBulkhead) -> None:
    """It reads what it is given."""
    result = await bulkhead.run("image/cat", "a b", stdin=b"in\n")
    assert (result.stdout, result.stderr, result.is_truncated) == (b"in\na b", b"", False)
    held = bulkhead.statistics()
    assert (held.active, held.completed, held.failed, held.removed) == (0, 1, 0, 0)


async def test_container_output_is_bounded(engine: StandIn) -> None:
    """Its beginning is kept."""
    bulkhead = ContainerBulkhead("jobs", 1, engine=str(engine.program), max_output_bytes=4)
    result = await bulkhead.run("image/cat", stdin=b"0123456789")
    assert (result.stdout, result.is_truncated) == (b"0123", True)


async def test_container_failure_has_code_and_log(
    engine: StandIn, bulkhead: ContainerBulkhead
) -> None:
    """Any exit code but 0 raises; the end of the log is there, and bounded."""
    long = "x" * 10_000 + "\nthe last line"
    with pytest.raises(ContainerFailed, match="image/fail ended with exit code 3: ") as caught:
        await bulkhead.run("image/fail", "3", "out", long)
    assert caught.value.exit_code == 3
    assert len(caught.value.log) < 4_200
    assert caught.value.log.endswith("\nthe last line")
    assert str(caught.value).endswith(": the last line")
    with pytest.raises(ContainerFailed) as caught:
        await bulkhead.run("image/fail", "1", "on stdout", "")
    assert engine.calls("rm") == []
    assert bulkhead.statistics().failed == 2


async def test_container_failure_without_stderr_shows_stdout(engine: StandIn) -> None:
    """And says less where there is nothing."""
    bulkhead = ContainerBulkhead("jobs", 1, engine=str(engine.program))
    silent = containers._failure("x", Finished(1, b"only this", b"", False))
    assert silent.log == "only this"
    nothing = containers._failure("x", Finished(1, b"", b"", False))
    assert str(nothing) == "a container of x ended with exit code 1"
    assert bulkhead.statistics().failed == 0


@pytest.mark.parametrize(("image", "removed"), [("image/absent", 0), ("image/half", 1)])
async def test_container_that_could_not_be_started_leaves_nothing(
    engine: StandIn, bulkhead: ContainerBulkhead, image: str, removed: int
) -> None:
    """Whether or not the engine had made one already."""
    with pytest.raises(ContainerFailed, match="could not be started") as caught:
        await bulkhead.run(image)
    assert caught.value.exit_code == 125
    assert engine.containers() == []
    assert len(engine.calls("rm")) == 1
    assert bulkhead.statistics().removed == removed


async def test_container_whose_client_is_lost_is_removed(
    engine: StandIn, bulkhead: ContainerBulkhead
) -> None:
    """Nobody would see its end any more."""
    with pytest.raises(ContainerFailed, match="was lost") as caught:
        await bulkhead.run("image/lost")
    assert caught.value.exit_code == -9
    assert engine.containers() == []
    assert bulkhead.statistics().removed == 1


# --- the limit -----------------------------------------------------------------------------------


async def test_container_bulkhead_keeps_to_its_number(engine: StandIn) -> None:
    """Beyond it callers wait or are refused, and no container is started for them."""
    bulkhead = ContainerBulkhead("jobs", 1, engine=str(engine.program), max_wait=0.05, max_queued=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bulkhead.run, "image/sleep")
        await wait_written(engine.directory / "started")
        with pytest.raises(QueueTimeout):
            await bulkhead.run("image/cat")
        bulkhead.resize(2)
        await bulkhead.run("image/cat")
        nursery.cancel_scope.cancel()
    assert len(engine.calls("run")) == 2
    assert bulkhead.statistics().refused == 1


async def test_container_events_tell_of_starts_and_ends(engine: StandIn) -> None:
    """Between those of the permit; an end that nobody waited for has no exit code."""
    events: list[ContainerBulkheadEvent] = []
    program = str(engine.program)
    bulkhead = ContainerBulkhead("jobs", 1, engine=program, listeners=[events.append])
    with pytest.raises(ContainerFailed):
        await bulkhead.run("image/fail", "3", "", "")
    kinds = [BulkheadEntered, ContainerStarted, ContainerEnded, BulkheadLeft]
    assert [type(event) for event in events] == kinds
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bulkhead.run, "image/sleep")
        await wait_written(engine.directory / "started")
        nursery.cancel_scope.cancel()
    ended = [event.exit_code for event in events if isinstance(event, ContainerEnded)]
    assert ended == [3, None]


# --- cancellation --------------------------------------------------------------------------------


async def test_container_of_a_cancelled_call_is_removed(
    engine: StandIn, bulkhead: ContainerBulkhead
) -> None:
    """Before the caller goes on; its client is gone too, and the permit is back."""
    files, children = open_files(), child_processes()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bulkhead.run, "image/sleep")
        await wait_written(engine.directory / "started")
        assert len(engine.containers()) == 1
        nursery.cancel_scope.cancel()
    assert engine.containers() == []
    assert (open_files(), child_processes()) == (files, children)
    held = bulkhead.statistics()
    assert (held.active, held.removed, held.failed) == (0, 1, 0)
    assert len(engine.calls("rm")) == 2


@pytest.mark.parametrize("way", ["lenient", "hasty", "strict"])
async def test_container_made_after_its_call_was_cancelled_is_removed(
    engine: StandIn, bulkhead: ContainerBulkhead, way: str
) -> None:
    """The first removal finds nothing, whatever the engine says to that, and is not the last."""
    engine.set(way)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bulkhead.run, "image/late")
        await wait_written(engine.directory / "started")
        nursery.cancel_scope.cancel()
    assert engine.containers() == []
    assert bulkhead.statistics().removed == 1
    assert len(engine.calls("rm")) == 2


async def test_container_client_that_will_not_end_is_killed(
    engine: StandIn, bulkhead: ContainerBulkhead, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked first, and its time is bounded."""
    monkeypatch.setattr(containers, "CLIENT_SECONDS", 0.3)
    children = child_processes()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bulkhead.run, "image/stubborn")
        await wait_written(engine.directory / "started")
        nursery.cancel_scope.cancel()
    assert engine.containers() == []
    assert child_processes() == children


async def test_container_that_cannot_be_removed_is_logged(
    engine: StandIn, bulkhead: ContainerBulkhead, caplog: pytest.LogCaptureFixture
) -> None:
    """By its name and with the engine's reason, since somebody has to look after it."""
    engine.set("broken")
    with caplog.at_level(logging.WARNING):
        with pytest.raises(ContainerFailed):
            await bulkhead.run("image/half")
    (name,) = engine.containers()
    assert name.removeprefix("container.") in caplog.text
    assert "the disk is full" in caplog.text
    assert bulkhead.statistics().removed == 0


async def test_container_that_is_not_there_is_not_logged(
    bulkhead: ContainerBulkhead, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing to remove is no trouble."""
    with caplog.at_level(logging.WARNING):
        with pytest.raises(ContainerFailed):
            await bulkhead.run("image/absent")
    assert caplog.text == ""


async def test_container_call_cancelled_anywhere_is_at_rest(
    engine: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking for an engine, starting, talking: no container, client, file or permit is left."""
    monkeypatch.setenv("PATH", str(engine.directory))
    monkeypatch.setattr(containers, "REMOVE_PAUSES", (0.0,))
    files, children = len(open_files()), child_processes()

    async def scenario(point: CancellationPoint) -> None:
        bulkhead = ContainerBulkhead("jobs", 1)
        with point:
            await bulkhead.run("image/cat", stdin=b"x")
        assert bulkhead.statistics().active == 0
        assert engine.containers() == []
        assert child_processes() == children
        assert len(open_files()) == files

    await sweep_cancellations(scenario)


# --- finding an engine ---------------------------------------------------------------------------


async def test_container_engine_that_was_named_and_is_missing_is_an_error() -> None:
    """It is named; the permit is back."""
    bulkhead = ContainerBulkhead("jobs", 1, engine="no-such-engine")
    with pytest.raises(EngineMissing, match="no-such-engine"):
        await bulkhead.run("image/cat")
    assert bulkhead.statistics().active == 0
    assert bulkhead.statistics().started == 0


async def test_container_engines_that_are_all_missing_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what was looked for."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineMissing, match="docker is not installed; podman is not installed"):
        await ContainerBulkhead("jobs", 1).run("image/cat")


async def test_container_engine_without_its_server_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker's client alone is no engine; without another one, its own words say why."""
    docker = StandIn(tmp_path / "first", "docker")
    docker.set("no-server")
    podman = StandIn(tmp_path / "second", "podman")
    monkeypatch.setenv("PATH", f"{docker.directory}:{podman.directory}")
    await ContainerBulkhead("jobs", 1).run("image/cat")
    assert docker.calls("run") == []
    assert len(podman.calls("run")) == 1
    monkeypatch.setenv("PATH", str(docker.directory))
    with pytest.raises(EngineMissing, match="docker does not work: Cannot connect"):
        await ContainerBulkhead("jobs", 1).run("image/cat")


async def test_container_engine_that_does_not_answer_is_passed_over(
    engine: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time is bounded."""
    engine.set("silent")
    monkeypatch.setattr(_engines, "ANSWER_SECONDS", 0.2)
    monkeypatch.setenv("PATH", str(engine.directory))
    with trio.fail_after(PATIENCE_SECONDS), pytest.raises(EngineMissing, match="no answer within"):
        await ContainerBulkhead("jobs", 1).run("image/cat")


async def test_container_engine_is_looked_for_once(
    engine: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker comes first."""
    StandIn(engine.directory, "podman")
    monkeypatch.setenv("PATH", str(engine.directory))
    bulkhead = ContainerBulkhead("jobs", 1)
    await bulkhead.run("image/cat")
    await bulkhead.run("image/cat")
    assert len(engine.calls("version")) == 1


async def test_container_engine_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    """The system's own; nothing is held."""
    program = tmp_path / "engine"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    bulkhead = ContainerBulkhead("jobs", 1, engine=str(program))
    with pytest.raises(FileNotFoundError):
        await bulkhead.run("image/cat")
    assert bulkhead.statistics().active == 0
    answer = await _engines.ask_engine((str(program),), 5.0)
    assert not answer.is_success
    assert "No such file" in answer.complaint


# --- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "make"),
    [
        ("max_concurrent", partial(ContainerBulkhead, "jobs", 0)),
        ("name", partial(ContainerBulkhead, "jo\0bs", 1)),
        ("engine", partial(ContainerBulkhead, "jobs", 1, engine="")),
        ("engine", partial(ContainerBulkhead, "jobs", 1, engine=())),
        ("engine", partial(ContainerBulkhead, "jobs", 1, engine=("podman", ""))),
        ("memory", partial(ContainerBulkhead, "jobs", 1, memory="much")),
        ("memory", partial(ContainerBulkhead, "jobs", 1, memory="0m")),
        ("memory", partial(ContainerBulkhead, "jobs", 1, memory="-1")),
        ("memory", partial(ContainerBulkhead, "jobs", 1, memory="1m\n")),
        ("cpus", partial(ContainerBulkhead, "jobs", 1, cpus=0)),
        ("cpus", partial(ContainerBulkhead, "jobs", 1, cpus=math.nan)),
        ("pids", partial(ContainerBulkhead, "jobs", 1, pids=0)),
        ("network", partial(ContainerBulkhead, "jobs", 1, network="")),
        ("network", partial(ContainerBulkhead, "jobs", 1, network="--privileged")),
        ("max_wait", partial(ContainerBulkhead, "jobs", 1, max_wait=-1.0)),
        ("max_queued", partial(ContainerBulkhead, "jobs", 1, max_queued=-1)),
        ("max_output_bytes", partial(ContainerBulkhead, "jobs", 1, max_output_bytes=-1)),
    ],
)
def test_container_bulkhead_of_nonsense_is_refused(
    parameter: str, make: partial[ContainerBulkhead]
) -> None:
    """The parameter is named."""
    with pytest.raises(ValueError, match=parameter):
        make()


async def test_container_bulkhead_says_what_it_is(engine: StandIn) -> None:
    """What whoever composes policies looks at; without a wait it refuses at once."""
    bulkhead = ContainerBulkhead("jobs", 1, engine=str(engine.program), max_wait=3.0)
    assert (bulkhead.name, bulkhead.kind, bulkhead.max_wait) == ("jobs", Kind.BULKHEAD, 3.0)
    assert bulkhead.obeys_cancellation
    full = ContainerBulkhead("jobs", 1, engine=str(engine.program))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(full.run, "image/sleep")
        await wait_written(engine.directory / "started")
        with pytest.raises(BulkheadFull):
            await full.run("image/cat")
        nursery.cancel_scope.cancel()
