"""What a run says of its parts, and of the machine it ran on."""

from __future__ import annotations

from bench.verdict import IDLE_LOAD, Verdict, joined, load_warnings


def test_load_of_an_idle_machine_is_not_mentioned() -> None:
    """Only a machine that had something else to do is worth a note."""
    assert load_warnings(IDLE_LOAD) == []
    assert "load average 1.7" in load_warnings(1.7)[0]


def test_joined_verdict_names_the_part_of_each_text() -> None:
    """What is said of the run as a whole comes first, without a name."""
    parts = [("a", Verdict(("slow",), ("noisy",))), ("b", Verdict((), ("late",)))]
    assert joined(parts, ["busy"]) == Verdict(("a: slow",), ("busy", "a: noisy", "b: late"))
