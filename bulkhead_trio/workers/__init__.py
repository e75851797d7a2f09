"""One server as several processes: shares, a supervisor, and numbers that add up."""

from bulkhead_trio.workers.main_process import serve
from bulkhead_trio.workers.supervisor import WorkersFailed

__all__ = ["WorkersFailed", "serve"]
