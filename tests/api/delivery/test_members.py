"""The members of objects that people send."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from bulkhead_trio.api._members import (
    Members,
    Wrong,
    flag,
    moment,
    one_of,
    parameter,
    seconds,
    text,
    text_or_null,
)
from bulkhead_trio.errors import CallerError, InvalidBody


def errors_of(members: Members) -> dict[str, str]:
    with pytest.raises(InvalidBody) as caught:
        members.check()
    return {each["path"]: each["message"] for each in caught.value.errors}


def test_every_mistake_is_told_with_its_path() -> None:
    """Missing, wrong, wrong inside, and not known."""

    def inside(value: object) -> object:
        raise Wrong("is wrong", "[2]")

    members = Members({"a": 1, "c": [], "d": None})
    members.read("a", flag)
    members.read("b", flag)
    members.read("c", inside)
    assert members.read("e", flag, default=True)
    assert errors_of(members) == {
        "$.a": "must be true or false",
        "$.b": "is missing; it must be true or false",
        "$.c[2]": "is wrong",
        "$.d": "is not known here",
    }


def test_what_is_right_is_read() -> None:
    """And an optional member that is null is not one that is absent."""
    members = Members({"a": "x", "b": None})
    assert members.read("a", text(1)) == "x"
    assert members.read("b", text_or_null(3), None) is None
    members.check()


@pytest.mark.parametrize("value", ["", "xxx", 1, None, "\0", ["x"]])
def test_text_is_refused(value: object) -> None:
    """Too short, too long, something else, or nothing that PostgreSQL can keep."""
    with pytest.raises(ValueError, match="must"):
        text(2)(value)


@pytest.mark.parametrize("value", [-1, 11, True, "1", None, float("nan"), float("inf")])
def test_seconds_are_refused(value: object) -> None:
    """Outside of what is allowed, or no number."""
    with pytest.raises(ValueError, match="must be a number from 0 to 10"):
        seconds(10)(value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-02-11T12:00:00Z", (2026, 2, 11, 12)),
        ("2026-02-11T13:00:00.000+01:00", (2026, 2, 11, 12)),
    ],
)
def test_moment_is_read_with_its_zone(written: str, meant: tuple[int, ...]) -> None:
    """In UTC."""
    year, month, day, hour = meant
    assert moment(written) == datetime.datetime(year, month, day, hour, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    "value",
    ["2026-02-11T12:00:00", "2026-02-11", "yesterday", 7, None, "0001-01-01T00:00:00+14:00", "９"],
)
def test_moment_without_a_zone_or_sense_is_refused(value: object) -> None:
    """Whose noon it was meant to be cannot be known."""
    with pytest.raises(ValueError, match="must be a time with its zone"):
        moment(value)


def test_parameter_names_itself() -> None:
    """Absent and empty are the same; what is wrong says which field it is."""
    fields: dict[str, Any] = {"state": "gone", "empty": ""}
    assert parameter(fields, "empty", one_of("a")) is None
    assert parameter(fields, "absent", one_of("a")) is None
    with pytest.raises(CallerError, match=r"^state must be one of a, b$"):
        parameter(fields, "state", one_of("a", "b"))
