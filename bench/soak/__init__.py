"""Soak tests: does the server stay the same over very many requests?

``python -m bench.soak memory`` and ``python -m bench.soak cancel``; ``docs/benchmarks.md``
explains them.
"""
