"""Prepared statements' names and losses, without a database."""

from __future__ import annotations

import pytest

from bulkhead_trio.database._statement_rules import (
    MOST_LOSSES,
    NOT_SUPPORTED,
    REPLANNING,
    UNKNOWN_STATEMENT,
    PreparedStatements,
    Statement,
    is_loss,
)


def test_statement_name_is_of_its_text() -> None:
    """The same text has the same name in every process, another text another."""
    assert Statement(b"SELECT 1").name == Statement(b"SELECT 1").name
    assert Statement(b"SELECT 1").name == b"bulkhead_e004ebd5b5532a4b"
    assert Statement(b"SELECT 2").name != Statement(b"SELECT 1").name


def test_prepared_statement_is_known_until_it_is_lost() -> None:
    """What was kept is found; after a loss it is not, and gets a name that is not taken."""
    statement = Statement(b"SELECT 1")
    statements = PreparedStatements()
    assert statements.get(statement) is None
    first = statements.name_for(statement)
    assert first is not None
    statements.keep(statement, first)
    assert statements.get(statement) == first
    statements.lose()
    assert statements.get(statement) is None
    assert statements.name_for(statement) not in (None, first)


def test_prepared_statements_that_are_lost_again_and_again_are_given_up() -> None:
    """Behind a pooler that swaps sessions nothing is prepared any more, after so many losses."""
    statement = Statement(b"SELECT 1")
    statements = PreparedStatements()
    for _ in range(MOST_LOSSES):
        assert statements.name_for(statement) is not None
        statements.lose()
    assert statements.name_for(statement) is None


@pytest.mark.parametrize(
    ("sqlstate", "routine", "expected"),
    [
        (UNKNOWN_STATEMENT, b"FetchPreparedStatement", True),
        (UNKNOWN_STATEMENT, None, True),
        (NOT_SUPPORTED, REPLANNING, True),
        (NOT_SUPPORTED, b"transformStmt", False),
        (NOT_SUPPORTED, None, False),
        (b"42P01", REPLANNING, False),
        (None, None, False),
    ],
)
def test_loss_is_told_from_other_errors(
    sqlstate: bytes | None, routine: bytes | None, expected: bool
) -> None:
    """A statement that is gone, or answers other columns, is lost; whatever else fails, fails."""
    assert is_loss(sqlstate, routine) is expected
