"""Orders: accepted when they are safe in the database, completed exactly once."""

from bulkhead_trio.orders.desk import (
    Accepted,
    OrderDesk,
    OrderDeskStatistics,
    OrderStore,
    is_failure_of_the_store,
)
from bulkhead_trio.orders.settings import OrderLimits

__all__ = [
    "Accepted",
    "OrderDesk",
    "OrderDeskStatistics",
    "OrderLimits",
    "OrderStore",
    "is_failure_of_the_store",
]
