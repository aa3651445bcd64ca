"""engram: memories of AI agents, embedded, searchable, free of duplicates and movable."""
