"""Secrets that a file does not show: masked on the way out, put back on the way in. Pure.

What was masked in a file means: as it is there. A file that was exported and not touched therefore
changes nothing, and a secret that is written out takes the place of the one there is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bulkhead_trio.database._audit_rules import MASK, masked

__all__ = ["MASK", "all_unmasked", "masked", "still_masked", "unmasked"]


def unmasked(wanted: Any, kept: Any) -> Any:
    """``wanted`` with what is masked in it taken from ``kept``, where that has it in its place."""
    return _unmasked(wanted, kept, masked(kept))


def _unmasked(wanted: Any, kept: Any, shown: Any) -> Any:
    if wanted == shown:
        return kept
    if isinstance(wanted, Mapping) and isinstance(kept, Mapping):
        return {
            name: _unmasked(member, kept[name], shown[name]) if name in kept else member
            for name, member in wanted.items()
        }
    if isinstance(wanted, list) and isinstance(kept, list) and len(wanted) == len(kept):
        return [_unmasked(*three) for three in zip(wanted, kept, shown, strict=True)]
    return wanted


def all_unmasked(wanted: Sequence[Any], kept: Sequence[Any]) -> list[Any]:
    """Each of ``wanted`` with what is masked in it taken from one of ``kept``, no two from one.

    What is masked may look the same and not be. So what is written out comes before what is masked,
    what nobody has touched before what was altered, and the same place before another.

    Args:
        wanted: in the order of the file.
        kept: in the order in which a file has them.
    """
    shown = [masked(each) for each in kept]
    whole = list(wanted)
    waiting, free = list(range(len(wanted))), list(range(len(kept)))

    def is_it(number: int, other: int) -> bool:
        return bool(wanted[number] == kept[other])

    def is_untouched(number: int, other: int) -> bool:
        return bool(wanted[number] == shown[other])

    def lacks_nothing(number: int, other: int) -> bool:
        wants = bool(still_masked(wanted[number]))
        return wants and not still_masked(unmasked(wanted[number], kept[other]))

    def settle(fits: Callable[[int, int], bool], *, stays: bool) -> None:
        for number in list(waiting):
            for other in free:
                if (number == other or not stays) and fits(number, other):
                    whole[number] = unmasked(wanted[number], kept[other])
                    waiting.remove(number)
                    free.remove(other)
                    break

    for fits in (is_it, is_untouched, lacks_nothing):
        settle(fits, stays=True)
        settle(fits, stays=False)
    return whole


def still_masked(value: Any, path: str = "$") -> list[str]:
    """The paths of what is masked in a document, and has not been put back."""
    if isinstance(value, Mapping):
        members = [(f"{path}.{name}", member) for name, member in value.items()]
    elif isinstance(value, list):
        members = [(f"{path}[{number}]", member) for number, member in enumerate(value)]
    else:
        is_masked = isinstance(value, str) and (
            value == MASK or ("://" in value and (f"{MASK}@" in value or f"={MASK}" in value))
        )
        return [path] if is_masked else []
    return [found for where, member in members for found in still_masked(member, where)]
