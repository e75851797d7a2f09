"""The state diagram is drawn from the table, and the one in the docs is that of now."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkhead_trio.policies.breaker._rules import Move, Trigger
from bulkhead_trio.policies.breaker._states import BreakerState
from bulkhead_trio.policies.breaker.diagram import BEGIN, END, main, renewed, state_diagram


def test_diagram_in_the_docs_is_that_of_the_table(repository: Path) -> None:
    """`python -m bulkhead_trio.policies.breaker.diagram docs/policies/circuit-breaker.md`."""
    document = (repository / "docs/policies/circuit-breaker.md").read_text(encoding="utf-8")
    assert renewed(document) == document


def test_diagram_has_a_line_for_each_move() -> None:
    """With its condition where it has one; from `any` where every state has the same."""
    moves = [
        Move(BreakerState.OPEN, Trigger.CALL_ASKS, BreakerState.HALF_OPEN, "it is time"),
        Move(BreakerState.OPEN, Trigger.FORCE_OPEN, BreakerState.FORCED_OPEN),
        *(Move(state, Trigger.RESET, BreakerState.CLOSED) for state in BreakerState),
    ]
    assert state_diagram(moves).splitlines() == [
        "stateDiagram-v2",
        '    state "any state" as any',
        "    [*] --> CLOSED",
        "    OPEN --> HALF_OPEN : a call asks [it is time]",
        "    OPEN --> FORCED_OPEN : force_open()",
        "    any --> CLOSED : reset()",
    ]


def test_diagram_is_renewed_between_the_markers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rest of the document stays; without markers it is refused, without a path printed."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    main([str(page)])
    drawn = f"{BEGIN}\n```mermaid\n{state_diagram()}\n```\n{END}"
    assert page.read_text() == f"before\n{drawn}\nafter\n"
    for broken in ("nothing", BEGIN, END):
        with pytest.raises(ValueError, match="the document has no"):
            renewed(broken)
    main([])
    assert capsys.readouterr().out == state_diagram() + "\n"
