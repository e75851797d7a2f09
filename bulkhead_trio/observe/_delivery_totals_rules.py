"""Numbers of the deliveries of several processes added up. Pure.

What a process has for itself is a sum; of what all of them see in the same database, whoever sees
most counts; of breakers of one name, the worst.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import islice
from operator import add

import msgspec

from bulkhead_trio.observe.delivery_snapshots import (
    MOST_BREAKERS,
    SEVERITY,
    DeliverySnapshot,
    IntakeSnapshot,
    PipelineSnapshot,
    TriesSnapshot,
)


def total_deliveries(parts: Sequence[DeliverySnapshot]) -> DeliverySnapshot:
    """The deliveries of all processes, as if they were one."""
    names = dict.fromkeys(name for part in parts for name in part.pipelines)
    return DeliverySnapshot(
        {
            name: reduce(
                added_pipelines,
                (part.pipelines[name] for part in parts if name in part.pipelines),
            )
            for name in names
        },
        reduce(_added_intakes, (part.intake for part in parts), IntakeSnapshot()),
    )


def added_pipelines(one: PipelineSnapshot, other: PipelineSnapshot) -> PipelineSnapshot:
    """What two processes say of a pipeline, as if it were one."""
    return PipelineSnapshot(
        max_parallel=one.max_parallel + other.max_parallel,
        active=one.active + other.active,
        held=one.held + other.held,
        waiting=max(one.waiting, other.waiting),
        retrying=max(one.retrying, other.retrying),
        dead_lettered=max(one.dead_lettered, other.dead_lettered),
        outcomes=_added(one.outcomes, other.outcomes),
        tries=_added_tries(one.tries, other.tries),
        breakers=_added(one.breakers, other.breakers),
        troubled=_worst(one.troubled, other.troubled),
        incidents=_added(one.incidents, other.incidents),
    )


def delivery_counters(deliveries: DeliverySnapshot) -> DeliverySnapshot:
    """What has been counted, without what there is: what outlives its process."""
    intake = deliveries.intake
    return DeliverySnapshot(
        {
            name: PipelineSnapshot(
                outcomes=each.outcomes, tries=each.tries, incidents=each.incidents
            )
            for name, each in deliveries.pipelines.items()
        },
        IntakeSnapshot(
            refused=intake.refused,
            opened=intake.opened,
            accepted=intake.accepted,
            batches=intake.batches,
            failed=intake.failed,
            crashes=intake.crashes,
        ),
    )


def continued_deliveries(now: DeliverySnapshot, past: DeliverySnapshot) -> DeliverySnapshot:
    """What a process holds, with what its predecessors had counted.

    Args:
        now: as it is.
        past: as `delivery_counters` left it.
    """
    return DeliverySnapshot(
        {
            name: added_pipelines(each, past.pipelines[name]) if name in past.pipelines else each
            for name, each in now.pipelines.items()
        },
        msgspec.structs.replace(
            now.intake,
            refused=now.intake.refused + past.intake.refused,
            opened=now.intake.opened + past.intake.opened,
            accepted=now.intake.accepted + past.intake.accepted,
            batches=now.intake.batches + past.intake.batches,
            failed=now.intake.failed + past.intake.failed,
            crashes=now.intake.crashes + past.intake.crashes,
        ),
    )


def worst_state(pipeline: PipelineSnapshot) -> str:
    """The state of the breaker that is worst off; closed where there is none.

    Of services that all share, where there are some: no tenant's dead server is everybody's.
    """
    states = pipeline.troubled.values() or (
        state for state, count in pipeline.breakers.items() if count
    )
    return max(states, key=SEVERITY.index, default=SEVERITY[0])


def _added_intakes(one: IntakeSnapshot, other: IntakeSnapshot) -> IntakeSnapshot:
    return IntakeSnapshot(
        workers=one.workers + other.workers,
        active=one.active + other.active,
        places=one.places + other.places,
        queued=one.queued + other.queued,
        refused=one.refused + other.refused,
        breaker=max(one.breaker, other.breaker, key=SEVERITY.index),
        opened=one.opened + other.opened,
        accepted=one.accepted + other.accepted,
        batches=one.batches + other.batches,
        failed=one.failed + other.failed,
        crashes=one.crashes + other.crashes,
    )


def _added_tries(one: TriesSnapshot, other: TriesSnapshot) -> TriesSnapshot:
    return TriesSnapshot(tuple(map(add, one.counts, other.counts)), one.seconds + other.seconds)


def _worst(one: Mapping[str, str], other: Mapping[str, str]) -> Mapping[str, str]:
    """Each name's worse state, those that are worst off first, as many as may be told."""
    found = dict(one)
    for name, state in other.items():
        found[name] = max(state, found.get(name, state), key=SEVERITY.index)
    names = sorted(found, key=lambda name: (-SEVERITY.index(found[name]), name))
    return {name: found[name] for name in islice(names, MOST_BREAKERS)}


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> Mapping[str, int]:
    found = dict(one)
    for name, count in other.items():
        found[name] = found.get(name, 0) + count
    return found
