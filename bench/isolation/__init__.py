"""The load test of isolation: what a flood of one tier does to the others.

``python -m bench.isolation`` runs it; ``docs/benchmarks.md`` explains it.
"""
