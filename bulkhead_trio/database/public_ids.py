"""Ids as the outside sees them: ``evt_``, ``wh_``, ``dlv_``, ``ntf_`` and 32 hexadecimal digits;
tenants' and routes' are UUIDs as they are.
"""

from bulkhead_trio.database._cursor_rules import is_uuid
from bulkhead_trio.database._public_id_rules import PublicPrefix, public_id, read_public_id

__all__ = ["PublicPrefix", "is_uuid", "public_id", "read_public_id"]
