"""Benchmarks and soak tests: the real server as a process, the real PostgreSQL, measured.

Nothing here is part of the package that is installed. ``docs/benchmarks.md`` says what each one
shows and how to read its figures.
"""
