"""The gateway as a proxy: beside its peers, with many tenants and routes, with Redis."""
