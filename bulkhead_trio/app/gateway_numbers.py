"""What the gateway of this process says of itself, for the metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs
import msgspec
import trio

from bulkhead_trio.database.changes import ChangeFeed
from bulkhead_trio.gateway.groups import Groups
from bulkhead_trio.gateway.numbers import routes_now
from bulkhead_trio.gateway.proxy import Proxy
from bulkhead_trio.gateway.routing import Routing
from bulkhead_trio.gateway.traffic import Traffic
from bulkhead_trio.http.client import HTTPClient
from bulkhead_trio.observe.gateway_snapshots import (
    ChangesSnapshot,
    ClientSnapshot,
    GatewaySnapshot,
    KeysSnapshot,
    LimitsSnapshot,
    RedisSnapshot,
    RouteSnapshot,
)
from bulkhead_trio.state import LocalTenantLimits, Shared, SharedTenantLimits
from bulkhead_trio.tenancy import TenantDirectory


@attrs.frozen
class GatewayNumbers:
    """Reads the gateway's numbers where they are counted.

    Attributes:
        routing: knows the routes.
        groups: knows their upstreams.
        traffic: what went where.
        proxy: knows what is open and lasts.
        client: asks upstreams.
        limits: of tenants.
        directory: knows API keys.
        feed: tells of changes.
        shared: what instances have in common; ``None`` for one that is alone.
    """

    routing: Routing
    groups: Groups
    traffic: Traffic
    proxy: Proxy
    client: HTTPClient
    limits: LocalTenantLimits | SharedTenantLimits
    directory: TenantDirectory
    feed: ChangeFeed
    shared: Shared | None

    def read(self) -> GatewaySnapshot:
        """All of them, as they are now."""
        up = down = 0
        for group in self.groups:
            for upstream in group.upstreams:
                if upstream.is_up:
                    up += 1
                else:
                    down += 1
        return msgspec.structs.replace(
            self._read(routes_now(self.traffic, self.routing.group_ids(), self.groups)),
            route_count=len(self.routing),
            upstreams_up=up,
            upstreams_down=down,
            tunnels=self.proxy.tunnels,
            client=self._client(),
        )

    def read_counters(self) -> GatewaySnapshot:
        """What has been counted; of what there is now, nothing in particular."""
        return self._read(self.traffic.statistics())

    def _read(self, routes: Mapping[str, RouteSnapshot]) -> GatewaySnapshot:
        limits, keys = self.limits.statistics(), self.directory.statistics()
        return GatewaySnapshot(
            routes=routes,
            limits=LimitsSnapshot(
                limits.tenants,
                limits.allowed,
                limits.refused,
                limits.without_redis,
                limits.denied,
            ),
            keys=KeysSnapshot(
                keys.known,
                keys.unwritten,
                keys.hits,
                keys.lookups,
                keys.shared_hits,
                keys.invented,
            ),
            changes=self._changes(),
            redis=self._redis(),
        )

    def _changes(self) -> ChangesSnapshot:
        now = self.feed.statistics()
        age = trio.current_time() - now.heard_at
        return ChangesSnapshot(
            now.is_listening,
            age if math.isfinite(age) else None,
            now.connected,
            now.changes,
        )

    def _client(self) -> ClientSnapshot:
        now = self.client.statistics()
        return ClientSnapshot(
            active=sum(each.active for each in now.origins.values()),
            idle=now.idle,
            waiting=sum(each.waiting for each in now.origins.values()),
        )

    def _redis(self) -> RedisSnapshot | None:
        if self.shared is None:
            return None
        now = self.shared.state.statistics()
        return RedisSnapshot(
            is_up=now.is_up,
            instances=self.shared.instances.count,
            connections=now.connections,
            in_flight=now.in_flight,
            calls=now.calls,
            round_trips=now.round_trips,
            failed=now.failed,
            late=now.late,
            refused=now.refused,
            sessions=now.sessions,
        )
