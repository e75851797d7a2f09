"""Tables on the screen, and in the pipes of programs."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.table import Table

WIDEST: Final = 100_000
"""Characters of a line that no terminal shows: more than any row of ours has."""


def print_table(table: Table) -> None:
    """As wide as the terminal; where there is none, one line a row, however wide."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDEST)
    console.print(table)
