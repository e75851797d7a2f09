"""Tables as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, first_number: int
) -> str:
    """A table whose columns from ``first_number`` on are aligned to the right."""
    rules = ["---" if index < first_number else "--:" for index in range(len(columns))]
    return "\n".join("| " + " | ".join(line) + " |" for line in (columns, rules, *rows))
