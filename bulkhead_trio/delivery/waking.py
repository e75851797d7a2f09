"""Wakes the stages when the database says that there is work for them.

`bulkhead_trio.database.work_feed` listens on a connection of its own, and connects again whenever
that is needed. What it says is a favour: every stage looks by itself once a second, and nothing is
lost when nobody says anything, as behind a pooler that swallows notifications.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bulkhead_trio.database.work_feed import WorkWord


class Waking:
    """A listener of the feed of work: rings for the stage that is meant.

    Args:
        stages: what to call for each word; it must not wait.
    """

    def __init__(self, stages: Mapping[WorkWord, Callable[[], None]]) -> None:
        self._stages = dict(stages)
        self._heard = 0

    @property
    def heard(self) -> int:
        """How often the database has said something."""
        return self._heard

    def __call__(self, word: WorkWord) -> None:
        """Wake whoever ``word`` means; a word for nobody here is for another's stage."""
        self._heard += 1
        if (wake := self._stages.get(word)) is not None:
            wake()
