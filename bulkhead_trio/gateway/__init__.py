"""The gateway: routes, their matching and transformation, upstreams, and the proxy."""
