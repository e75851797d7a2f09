"""``python -m bulkhead_trio.workers``: started by the main process, and of no use to others."""

import sys

from bulkhead_trio.workers.worker import main

if __name__ == "__main__":
    sys.exit(main())
