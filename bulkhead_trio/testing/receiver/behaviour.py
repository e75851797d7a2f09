"""How an endpoint behaves: data, in Python and in JSON."""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class _Step(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", rename="camel"):
    """What one request gets."""


class Answers(_Step, frozen=True, tag="answer"):
    """An answer.

    Attributes:
        status: of it.
        seconds: after which it is given.
        retry_after: seconds of the header ``Retry-After``.
        location: the header of this name.
        body: text.
    """

    status: int = 200
    seconds: float = 0.0
    retry_after: int | None = None
    location: str | None = None
    body: str = ""


class Resets(_Step, frozen=True, tag="reset"):
    """No answer: the connection is reset after so many ``seconds``."""

    seconds: float = 0.0


class InTurn(_Step, frozen=True, tag="inTurn"):
    """One step a request, over and over; with ``is_last_kept`` the last one stays."""

    steps: tuple[Answers | Resets, ...]
    is_last_kept: bool = False

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: there is no step.
        """
        if not self.steps:
            raise ValueError("steps needs at least one")


Behaviour: TypeAlias = Answers | Resets | InTurn


def ok() -> Answers:
    """Takes everything, at once."""
    return Answers()


def slow(seconds: float) -> Answers:
    """Takes everything, after so many seconds."""
    return Answers(seconds=seconds)


def dead() -> Answers:
    """Refuses everything with 503."""
    return Answers(status=503, body="out of order")


def gone() -> Answers:
    """Says 410: nothing is to be sent here any more."""
    return Answers(status=410)


def busy(retry_after: int) -> Answers:
    """Says 429, and after how many seconds it wants to be asked again."""
    return Answers(status=429, retry_after=retry_after)


def redirecting(location: str) -> Answers:
    """Says 307, to a place that nobody may go to."""
    return Answers(status=307, location=location)


def flapping(good: int, bad: int) -> InTurn:
    """So many good answers, then so many refusals by 503, over and over."""
    return InTurn(steps=(Answers(),) * good + (Answers(status=503),) * bad)


def step_of(behaviour: Behaviour, turn: int) -> Answers | Resets:
    """What the request gets that is the ``turn``-th of its endpoint, counted from 0."""
    if not isinstance(behaviour, InTurn):
        return behaviour
    last = len(behaviour.steps) - 1
    return behaviour.steps[min(turn, last) if behaviour.is_last_kept else turn % (last + 1)]
