"""Work that leaves the house: events to webhooks, and notifications, each in its own pipeline."""
