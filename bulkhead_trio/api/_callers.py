"""What is done with a request once it is known whose it is."""

from __future__ import annotations

import msgspec

from bulkhead_trio.api.messages import Request
from bulkhead_trio.policies.context import CURRENT_REQUEST, RequestContext


def belongs_to(request: Request, tenant_id: str) -> None:
    """From here on the request is this tenant's: for its log line, and for every queue it waits in.

    The edge, which has set the request's context, resets it.
    """
    request.notes["tenant"] = tenant_id
    context = CURRENT_REQUEST.get() or RequestContext()
    CURRENT_REQUEST.set(msgspec.structs.replace(context, tenant=tenant_id))
