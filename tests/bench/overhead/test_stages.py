"""Trying peers out."""

from __future__ import annotations

import asyncio

import trio

from bench.overhead import jobs
from bench.overhead.stages import Trial, describe, try_out
from bench.overhead.subjects import Block, Role, Stage, Subject, WrongSubject, decorated


async def _prepare(stage: Stage) -> Block:
    return decorated(stage.work)


async def _needs_asyncio(stage: Stage) -> Block:
    asyncio.get_running_loop()
    return decorated(stage.work)


async def _is_missing(_: Stage) -> Block:
    raise ModuleNotFoundError("No module named 'absent'", name="absent")


async def _fails(_: Stage) -> Block:
    raise ValueError("broken")


async def _cannot_wait(_: Stage) -> None:
    raise WrongSubject("1 of 2 callers came to run")


def tried(subject: Subject) -> Trial:
    (trial,) = try_out([subject])
    return trial


def peer(prepare: object, **others: object) -> Subject:
    return Subject(jobs.RETRY, "peer", "call", Role.PEER, prepare, **others)  # type: ignore[arg-type]


def test_peer_that_runs_on_trio_is_tried_there_alone() -> None:
    """Nothing is to be said of it."""
    trial = tried(peer(_prepare))
    assert (trial.on_trio, trial.on_asyncio) == (None, None)
    assert trial.is_measurable


def test_peer_that_needs_asyncio_is_measured_there() -> None:
    """What Trio's trial showed is kept."""
    trial = tried(peer(_needs_asyncio))
    assert trial.on_trio == "RuntimeError: no running event loop"
    assert trial.on_asyncio is None
    assert trial.is_measurable


def test_peer_that_is_not_installed_is_listed() -> None:
    """By the name of what is missing; asyncio makes no difference to that."""
    trial = tried(peer(_is_missing))
    assert trial.on_trio == trial.on_asyncio == "not installed (absent)"
    assert not trial.is_measurable


def test_peer_that_fails_everywhere_is_listed() -> None:
    """With what it raised."""
    trial = tried(peer(_fails))
    assert trial.on_trio == trial.on_asyncio == "ValueError: broken"
    assert not trial.is_measurable


def test_peer_has_to_stand_its_trial() -> None:
    """Doing the uncontended half of a job is not doing it."""
    trial = tried(peer(_prepare, trial=_cannot_wait))
    assert trial.on_trio == "WrongSubject: 1 of 2 callers came to run"


def test_peers_alone_are_tried() -> None:
    """Ours are not on trial here."""
    assert try_out([Subject(jobs.RETRY, "ours", "call", Role.OURS, _fails)]) == []


def test_tasks_of_a_trial_end_with_it() -> None:
    """On both loops, also those that would run for ever."""
    ended: list[str] = []

    async def prepare(stage: Stage) -> Block:
        async def wait() -> None:
            try:
                await stage.pause()
            finally:
                ended.append("ended")

        stage.start_soon(wait)
        await stage.turn()
        return decorated(stage.work)

    async def asyncio_only(stage: Stage) -> Block:
        asyncio.get_running_loop()
        return await prepare(stage)

    assert tried(peer(prepare)).on_trio is None
    assert tried(peer(asyncio_only)).on_asyncio is None
    assert ended == ["ended"] * 2


def test_error_in_a_group_is_described_by_what_is_in_it() -> None:
    """Trio wraps what a task raises."""
    assert describe(ExceptionGroup("a group", [OSError("full")])) == "OSError: full"
    assert describe(trio.TooSlowError()) == "TooSlowError"
