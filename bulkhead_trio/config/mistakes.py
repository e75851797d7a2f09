"""What is wrong with a configuration, all of it at once."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from bulkhead_trio.errors import BulkheadTrioError


@attrs.frozen
class Mistake:
    """One thing to put right.

    Attributes:
        variable: the environment variable's name, wherever the value came from.
        reason: what it must be instead; never a secret.
        source: where the value came from; empty when it came from nowhere.
    """

    variable: str
    reason: str
    source: str = ""

    def __str__(self) -> str:
        where = f" (from {self.source})" if self.source else ""
        return f"{self.variable}: {self.reason}{where}"


class ConfigurationError(BulkheadTrioError):
    """The configuration cannot be used.

    Attributes:
        mistakes: every mistake found, at least one.
    """

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes: tuple[Mistake, ...] = tuple(mistakes)
