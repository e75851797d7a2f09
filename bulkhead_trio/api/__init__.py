"""HTTP in: handlers, the Quart-Trio app, and the one place where an error becomes a status code."""
