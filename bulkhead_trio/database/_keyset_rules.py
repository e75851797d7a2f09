"""The statement for one page of a list in the order of ``(created_at, id)``. Pure."""

from __future__ import annotations


def page_statement(
    selection: str, *, alias: str, continues: bool, newest_first: bool, condition: str = ""
) -> bytes:
    """``selection`` cut to a page, walked by the index of its table from either end.

    Its parameters are those of ``condition``, then a moment and an id where it continues, then
    the number of rows.

    Args:
        selection: everything before ``WHERE``; none of its parts comes from outside.
        alias: the table's in it.
        continues: whether the page begins behind a place.
        newest_first: which way the list is read.
        condition: what else must hold.
    """
    sign, direction = ("<", "DESC") if newest_first else (">", "ASC")
    place = f"({alias}.created_at, {alias}.id) {sign} (%s, %s::uuid)" if continues else ""
    conditions = " AND ".join(each for each in (condition, place) if each)
    where = f" WHERE {conditions}" if conditions else ""
    order = f" ORDER BY {alias}.created_at {direction}, {alias}.id {direction} LIMIT %s"
    return f"{selection}{where}{order}".encode()
