"""What one of several processes may let pass of a limit that none of them counts for all. Pure."""

from __future__ import annotations


def part_of(limit: int, number: int, count: int) -> int:
    """The part of process ``number``, from 0, of ``count``.

    The parts add up to exactly the limit, and differ by 1 at most; of a limit below ``count``, each
    has 1.
    """
    each, left = divmod(limit, count)
    return max(1, each + (number < left))
