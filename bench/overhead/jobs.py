"""The jobs, and the bars that ours are held against."""

from __future__ import annotations

from bench.overhead.subjects import Job

BREAKER = Job("breaker", "Circuit breaker: a call succeeds", 2.0)
BREAKER_REFUSAL = Job("breaker-refusal", "Circuit breaker: a call is refused", 3.0)
BULKHEAD = Job("bulkhead", "Bulkhead: a call gets a permit", 2.0)
BULKHEAD_REFUSAL = Job("bulkhead-refusal", "Bulkhead: a call is refused", 3.0)
KEYED = Job("keyed-limit", "Rate limit a key: a request passes", 2.0)
KEYED_REFUSAL = Job("keyed-limit-refusal", "Rate limit a key: a request is refused", 3.0)
NEW_KEY = Job("keyed-limit-new", "Rate limit a key: a key that is not remembered")
LIMIT = Job("limit", "One rate limit: a call passes")
RETRY = Job("retry", "Retry: the first try succeeds")
TIMEOUT = Job("timeout", "Timeout: a call is in time")
FALLBACK = Job("fallback", "Fallback: a call succeeds")
SINGLE_FLIGHT = Job("single-flight", "Single flight: nobody else asks")
THROTTLE = Job("throttle", "Throttle: a call succeeds")
HEDGE = Job("hedge", "Hedge: the first try is in time")
COMPARTMENT = Job("compartment", "Compartment: a worker is free")
WORKER_POOL = Job("worker-pool", "Worker pool: a worker is free")
PIPELINE = Job("pipeline", "Five policies: a call succeeds", 25.0)
FAIR_QUEUE = Job("fair-queue", "Fair queue: one in, one out")
PRIORITY_QUEUE = Job("priority-queue", "Priority queue: one in, one out")

JOBS = (
    BREAKER,
    BREAKER_REFUSAL,
    BULKHEAD,
    BULKHEAD_REFUSAL,
    KEYED,
    KEYED_REFUSAL,
    NEW_KEY,
    LIMIT,
    RETRY,
    TIMEOUT,
    FALLBACK,
    SINGLE_FLIGHT,
    THROTTLE,
    HEDGE,
    COMPARTMENT,
    WORKER_POOL,
    PIPELINE,
    FAIR_QUEUE,
    PRIORITY_QUEUE,
)

FEW_KEYS = 10
MANY_KEYS = 100_000
MOST_BYTES_A_KEY = 300.0
"""What the keyed limiter may keep for a key, beyond the key itself."""
MOST_STEP_RATIO = 1.5
"""How much longer a fair queue's step may take with `MANY_KEYS` than with `FEW_KEYS`.

The work is the same; what grows is how often the next key is not in the processor's cache.
"""
