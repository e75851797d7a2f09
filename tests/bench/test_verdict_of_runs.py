"""What a run says of the machine it ran on."""

from __future__ import annotations

from bench.verdict import IDLE_LOAD, load_warnings


def test_load_of_an_idle_machine_is_not_mentioned() -> None:
    """Only a machine that had something else to do is worth a note."""
    assert load_warnings(IDLE_LOAD) == []
    assert "load average 1.7" in load_warnings(1.7)[0]
