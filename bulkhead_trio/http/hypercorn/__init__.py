"""HTTP by Hypercorn's protocol classes: TLS, HTTP/2, WebSocket, and HTTP/1.1 without the engine."""
