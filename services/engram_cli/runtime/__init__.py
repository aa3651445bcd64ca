"""The embedded servers of ``engram up``: PostgreSQL and NATS as supervised children."""
