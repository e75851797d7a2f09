"""The breaker's state diagram, drawn from its table of moves.

``python -m bulkhead_trio.policies.breaker.diagram`` prints it; with the path of a document, it
renews the one between the markers there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from bulkhead_trio.policies.breaker._rules import MOVES, Move
from bulkhead_trio.policies.breaker._states import BreakerState

BEGIN = "<!-- diagram: python -m bulkhead_trio.policies.breaker.diagram FILE renews it -->"
END = "<!-- end of diagram -->"


def state_diagram(moves: Iterable[Move] = MOVES) -> str:
    """The table as a Mermaid state diagram.

    What leads from every state to one and the same is drawn once, from ``any``.
    """
    rows = tuple(moves)
    edges = [f"[*] --> {BreakerState.CLOSED.value}"]
    for row in rows:
        source = "any" if _is_from_anywhere(row, rows) else row.source.value
        condition = f" [{row.when}]" if row.when else ""
        edges.append(f"{source} --> {row.target.value} : {row.trigger.value}{condition}")
    lines = ["stateDiagram-v2", '    state "any state" as any']
    lines += (f"    {edge}" for edge in dict.fromkeys(edges))
    return "\n".join(lines)


def _is_from_anywhere(row: Move, rows: Iterable[Move]) -> bool:
    sources = {
        other.source
        for other in rows
        if (other.trigger, other.target, other.when) == (row.trigger, row.target, row.when)
    }
    return sources | {row.target} == set(BreakerState)


def renewed(document: str) -> str:
    """``document`` with the diagram of now between its markers.

    Raises:
        ValueError: it has no markers.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the document has no {BEGIN} and {END}")
    return f"{before}{BEGIN}\n```mermaid\n{state_diagram()}\n```\n{END}{after}"


def main(arguments: Sequence[str]) -> None:
    """Print the diagram, or renew it in the documents whose paths are given."""
    if not arguments:
        print(state_diagram())
    for argument in arguments:
        path = Path(argument)
        path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
