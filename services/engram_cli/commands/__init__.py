"""The commands: each module registers its own with ``register(app)`` and imports lazily."""
