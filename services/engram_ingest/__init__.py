"""HTTP API, search, NATS commands and the outbox relay."""
