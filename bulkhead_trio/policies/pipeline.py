"""Several policies round one call, in an order that is checked."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar, TypeVarTuple, cast

import attrs

from bulkhead_trio.policies._pipeline_rules import Finding, Layer, first_wrong_order
from bulkhead_trio.policies.bulkhead._sync_policy import SyncPolicy
from bulkhead_trio.policies.policy import Kind, Policy

T = TypeVar("T")
Args = TypeVarTuple("Args")


class PipelineOrderError(ValueError):
    """Two policies are in an order that does not do what it seems to.

    Attributes:
        finding: which two, and why.
    """

    def __init__(self, finding: Finding) -> None:
        super().__init__(
            f"{finding.outer} must not be outside {finding.inner}: {finding.reason}"
            " (allow_any_order=True lets it be)"
        )
        self.finding = finding


@attrs.frozen
class PipelineStatistics:
    """What a pipeline has counted, and what each of its policies says, outermost first.

    Attributes:
        calls: calls that have entered the outermost policy.
    """

    name: str
    calls: int
    policies: tuple[object, ...]


class Pipeline(Policy):
    """Runs each call through its policies: the first is the outermost and decides first.

    A refusal by an inner policy passes through the outer ones as what it is: no breaker counts it.

    A pipeline inside a pipeline counts as its policies do.

    Args:
        policies: outermost first; one or more. One that runs plain functions (`ThreadBulkhead`,
            `ProcessBulkhead`) can be the last only.
        name: for statistics and messages.
        allow_any_order: whether to trust the order given, whatever is known of it.

    Raises:
        PipelineOrderError: the order is known to be wrong.
        ValueError: there is no policy, or one policy is there twice.
        TypeError: one of them is no policy, or runs plain functions and is not the last.
    """

    kind = Kind.PIPELINE

    def __init__(
        self, *policies: Policy | SyncPolicy, name: str = "pipeline", allow_any_order: bool = False
    ) -> None:
        self.name = name
        self.policies = tuple(_flattened(policies))
        if not self.policies:
            raise ValueError("policies must be one or more")
        _check_types(self.policies)
        if len({id(policy) for policy in self.policies}) < len(self.policies):
            raise ValueError("policies must differ: a call cannot pass the same one twice")
        finding = first_wrong_order([_layer_of(policy) for policy in self.policies])
        if finding is not None and not allow_any_order:
            raise PipelineOrderError(finding)
        self._calls = 0
        # p1.call(p2.call, p3.call, work, *args) is the whole chain: each calls the next with what
        # is left, and nothing has to be built for a call.
        self._outermost = cast("Callable[..., Awaitable[Any]]", self.policies[0].call)
        self._inner = tuple(policy.call for policy in self.policies[1:])

    async def call(self, work: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        """Run ``await work(*args)`` inside every policy; raises what they and it raise."""
        self._calls += 1
        return cast("T", await self._outermost(*self._inner, work, *args))

    def statistics(self) -> PipelineStatistics:
        """What each policy knows now."""
        return PipelineStatistics(
            name=self.name,
            calls=self._calls,
            policies=tuple(policy.statistics() for policy in self.policies),
        )

    def __str__(self) -> str:
        """The policies as a stair, outermost first, down to the call."""
        steps = [self.name, *(_title(policy) for policy in self.policies), "the call"]
        return "\n".join(
            step if depth == 0 else f"{'   ' * (depth - 1)}└─ {step}"
            for depth, step in enumerate(steps)
        )

    def __repr__(self) -> str:
        return f"Pipeline({' > '.join(_title(policy) for policy in self.policies)})"


def _check_types(policies: tuple[Policy | SyncPolicy, ...]) -> None:
    for place, policy in enumerate(policies, start=1):
        if not isinstance(policy, Policy | SyncPolicy):
            raise TypeError(f"policies must be policies, not {policy!r}")
        if isinstance(policy, SyncPolicy) and place < len(policies):
            raise TypeError(
                f"{_title(policy)} runs plain functions, so it can be the innermost policy only"
            )


def _flattened(policies: tuple[Policy | SyncPolicy, ...]) -> Iterator[Policy | SyncPolicy]:
    for policy in policies:
        if isinstance(policy, Pipeline):
            yield from policy.policies
        else:
            yield policy


def _title(policy: Policy | SyncPolicy) -> str:
    return f"{policy.kind.value} {policy.name}".rstrip()


def _layer_of(policy: Policy | SyncPolicy) -> Layer:
    is_timeout = policy.kind is Kind.TIMEOUT
    return Layer(
        kind=policy.kind,
        title=_title(policy),
        max_wait=policy.max_wait,
        seconds=getattr(policy, "seconds", math.inf) if is_timeout else math.inf,
        obeys_cancellation=policy.obeys_cancellation,
    )
