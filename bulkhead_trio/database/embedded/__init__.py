"""The PostgreSQL that comes with the package: a real database without an installation."""

from bulkhead_trio.database.embedded._errors import EmbeddedServerError
from bulkhead_trio.database.embedded.server import EmbeddedServer, open_embedded_server

__all__ = ["EmbeddedServer", "EmbeddedServerError", "open_embedded_server"]
