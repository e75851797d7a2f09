"""What `bench.http` compares with: the same jobs, done with what people would use instead.

Each is a program that listens on ``127.0.0.1`` at ``PORT``. Those that answer ``GET /api/data``
read ``TIERS`` (JSON: tier to ``connections``, ``rateLimit`` and ``window`` in seconds) and libpq's
variables (``PGHOST`` ...). Those on Node.js find their packages by ``NODE_PATH``.
"""
