"""Events, webhooks and notifications from outside: real processes, sockets, mail and crashes."""
