"""Which patterns take an event type, said apart from the SQL that is compared with it."""

from __future__ import annotations


def patterns_for(event_type: str) -> tuple[str, ...]:
    """Every pattern that takes a type, the widest first.

    ``order.item.added`` is taken by ``*``, ``order.*``, ``order.item.*`` and itself.
    """
    names = event_type.split(".")
    beginnings = (".".join(names[:number]) for number in range(1, len(names)))
    return ("*", *(f"{each}.*" for each in beginnings), event_type)
