"""The HTTP/1.1 client: pools of connections, streaming both ways, limits on all that waits."""

from bulkhead_trio.http.client._request_rules import Field
from bulkhead_trio.http.client.client import HTTPClient, HTTPClientStatistics
from bulkhead_trio.http.client.dialling import Resolve, client_tls_context, resolve_by_system
from bulkhead_trio.http.client.endpoints import (
    BulkheadedExchange,
    BulkheadHTTPClient,
    EndpointStatistics,
)
from bulkhead_trio.http.client.exchange import Exchange
from bulkhead_trio.http.client.limits import ClientLimits
from bulkhead_trio.http.client.network import NetworkPolicy, guarded_resolve
from bulkhead_trio.http.client.pool import OriginStatistics
from bulkhead_trio.http.client.response import Response, StreamedResponse
from bulkhead_trio.http.client.upgraded import UpgradedStream

__all__ = [
    "BulkheadHTTPClient",
    "BulkheadedExchange",
    "ClientLimits",
    "EndpointStatistics",
    "Exchange",
    "Field",
    "HTTPClient",
    "HTTPClientStatistics",
    "NetworkPolicy",
    "OriginStatistics",
    "Resolve",
    "Response",
    "StreamedResponse",
    "UpgradedStream",
    "client_tls_context",
    "guarded_resolve",
    "resolve_by_system",
]
