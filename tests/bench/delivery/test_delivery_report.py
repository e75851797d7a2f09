"""What a run shows and what fails it, on runs that never took place."""

from __future__ import annotations

import json

import pytest

from bench.delivery.figures import RateResult, Turn
from bench.delivery.report import claim_rows, document, limits, markdown, rate_rows, terminal_tables

from .builders import a_rate, a_run, a_turn, some_claims


def test_turn_says_what_one_cost() -> None:
    """A rate, cores and microseconds; of somebody who took no part nothing."""
    turn = a_turn(500, seconds=4, server=0.5)
    assert turn.per_second == 500
    assert turn.cores("server") == pytest.approx(0.5)
    assert turn.microseconds("server") == pytest.approx(1_000)
    assert turn.microseconds("PostgreSQL") == 0
    assert Turn(0, 0.0, {"server": 1.0}).per_second == 0


def test_rate_is_the_median_and_its_spread() -> None:
    """Of three the middle one; the spread is a share of it."""
    result = a_rate(900, 1_000, 1_200)
    assert result.per_second == 1_000
    assert result.middle is result.turns[1]
    assert result.spread == pytest.approx(0.3)
    assert result.is_met
    assert a_rate(900, 1_100).middle.per_second == 900


@pytest.mark.parametrize(
    ("cpu", "text"),
    [
        ({"server": 0.95, "PostgreSQL": 0.5}, "server, which used 0.95 cores"),
        ({"server": 0.8, "PostgreSQL": 0.7, "receiver": 0.3}, "all 2 cores together, server most"),
        ({"server": 0.5, "PostgreSQL": 0.4}, "waiting: of 2 cores 0.90 were used"),
        ({}, "not known"),
    ],
)
def test_limit_is_who_is_busy(cpu: dict[str, float], text: str) -> None:
    """One that uses its core, all together, or nobody."""
    result = RateResult(
        "a", "A", "events", None, [Turn(1_000, 10.0, {who: 10 * used for who, used in cpu.items()})]
    )
    assert text in result.limit(2)


@pytest.mark.parametrize(
    ("run", "failures"),
    [
        (a_run(a_rate(1_000)), ()),
        (a_run(a_rate(999)), ("one-process: 999 deliveries/s, not 1,000",)),
        (a_run(a_rate(1, bar=None)), ()),
        (a_run(claims=[some_claims(1.0, 1.5, 2.0)]), ()),
        (
            a_run(claims=[some_claims(1.0, 9.0, 2.5)]),
            ("claims, many: 2.50 times as long with 100,000 waiting as with 1,000, and not 2",),
        ),
        (
            a_run(a_rate(2_000, turns=[a_turn(2_000, refused=500)])),
            ("one-process: 500 of 20,500 answers were no good ones",),
        ),
    ],
)
def test_verdict_holds_each_bar(run: object, failures: tuple[str, ...]) -> None:
    """Too slow, not flat, or refused: each fails the run, and says by how much."""
    assert run.verdict.failures == failures  # type: ignore[attr-defined]
    assert run.verdict.warnings == ("the machine was busy",)  # type: ignore[attr-defined]


def test_rows_have_all_columns() -> None:
    """Rates with what one costs whom, claims with their ratio."""
    run = a_run(a_rate(500), a_rate(2_000, bar=None), claims=[some_claims(1.0, 1.5)])
    first, second = rate_rows(run)
    assert first == (
        "one-process", "500", "0%", "1.5", "9.2", "1,900", "1,000", "400", "1.65",
        ">= 1,000 FAIL",
    )  # fmt: skip
    assert second[-1] == ""
    assert list(claim_rows(run.claims[0])) == [
        ("1,000", "20", "1.00", "2.00", "3.00", "×1.00", ""),
        ("10,000", "20", "1.50", "3.00", "4.50", "×1.50", "<= 2 pass"),
    ]
    assert next(iter(limits(run))).endswith("limited by server, which used 0.95 cores")


def test_markdown_and_document_say_the_same() -> None:
    """Every figure, the warnings and the verdict; nothing that JSON does not know."""
    run = a_run(a_rate(500), claims=[some_claims(1.0, 1.5)])
    text = markdown(run)
    assert "| one-process | 500 |" in text
    assert "- Note: the machine was busy." in text
    assert text.endswith("FAILED: one-process: 500 deliveries/s, not 1,000.\n")
    found = json.loads(json.dumps(document(run)))
    assert found["rates"][0]["perSecond"] == 500
    assert found["rates"][0]["rounds"][0]["microsecondsEach"]["server"] == 1_900
    assert found["claims"][0]["points"][1]["waiting"] == 10_000
    assert found["failures"] == list(run.verdict.failures)
    assert len(list(terminal_tables(run))) == 2
    assert list(terminal_tables(a_run())) == []
