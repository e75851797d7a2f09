"""Trying again, and the budget that bounds it."""

from bulkhead_trio.policies.retry._rules import Jitter, Reason
from bulkhead_trio.policies.retry.budget import RetryBudget, RetryBudgetStatistics
from bulkhead_trio.policies.retry.retry import (
    GaveUp,
    Retry,
    Retrying,
    RetryStatistics,
    is_worth_retrying,
)

__all__ = [
    "GaveUp",
    "Jitter",
    "Reason",
    "Retry",
    "RetryBudget",
    "RetryBudgetStatistics",
    "RetryStatistics",
    "Retrying",
    "is_worth_retrying",
]
