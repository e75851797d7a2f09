"""Bulkhead Trio: resilience policies for Trio programs, and the API server built from them."""
