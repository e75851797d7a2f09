"""Orders: accepted when they are safe in the database, completed exactly once."""

from bulkhead_trio.orders.desk import OrderDesk, OrderStore, is_failure_of_the_store
from bulkhead_trio.orders.records import (
    Accepted,
    OrderDeskStatistics,
    OrderEnded,
    OrderListener,
)
from bulkhead_trio.orders.settings import OrderLimits

__all__ = [
    "Accepted",
    "OrderDesk",
    "OrderDeskStatistics",
    "OrderEnded",
    "OrderLimits",
    "OrderListener",
    "OrderStore",
    "is_failure_of_the_store",
]
