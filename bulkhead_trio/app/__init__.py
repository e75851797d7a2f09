"""The composition root: settings become resources, nurseries and an application.

The only place that knows every part. It starts them from the inside out (database, tiers, HTTP) and
takes them down in the opposite order.
"""

from bulkhead_trio.app.asgi import ASGIApplication, create_app
from bulkhead_trio.app.composition import Application, open_application
from bulkhead_trio.app.ground import Announce, Ground, open_ground
from bulkhead_trio.app.serving import serve

__all__ = [
    "ASGIApplication",
    "Announce",
    "Application",
    "Ground",
    "create_app",
    "open_application",
    "open_ground",
    "serve",
]
