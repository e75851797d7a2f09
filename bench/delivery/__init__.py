"""Events and webhooks: how many a second, from one end to the other, and what limits it."""
