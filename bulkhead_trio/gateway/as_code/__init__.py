"""Tenants and routes as a file: written, read, compared with what there is, and applied."""

from bulkhead_trio.gateway.as_code._plan_rules import Plan
from bulkhead_trio.gateway.as_code.applying import Applied, Stock, apply_plan, plan_for, read_stock
from bulkhead_trio.gateway.as_code.document import GatewayFile, read_file, write_file
from bulkhead_trio.gateway.as_code.wording import plan_lines, summary_of

__all__ = [
    "Applied",
    "GatewayFile",
    "Plan",
    "Stock",
    "apply_plan",
    "plan_for",
    "plan_lines",
    "read_file",
    "read_stock",
    "summary_of",
    "write_file",
]
