"""The toolkit: resilience mechanisms that know no HTTP, no SQL and no tenants."""
