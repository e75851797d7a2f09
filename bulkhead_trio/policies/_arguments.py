"""What a call is about, seen from a policy that stands outside of others."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from bulkhead_trio.policies.bulkhead._sync_policy import SyncPolicy
from bulkhead_trio.policies.policy import Policy


def innermost_arguments(
    work: Callable[..., object], args: tuple[Any, ...]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that the innermost function will be called with, positional and by keyword.

    In a pipeline, the ``call`` of each policy further in and the function itself come before them;
    a decorated function has them bound already.

    Args:
        work: what the policy was told to call.
        args: with what.
    """
    keywords: dict[str, Any] = {}
    while True:
        if isinstance(work, functools.partial):
            args, keywords = (*work.args, *args), {**work.keywords, **keywords}
            work = work.func
        elif args and isinstance(getattr(work, "__self__", None), Policy | SyncPolicy):
            work, args = args[0], args[1:]
        else:
            return args, keywords
