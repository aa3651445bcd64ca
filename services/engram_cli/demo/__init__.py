"""The sample exports that `engram demo` imports, so a first run needs no data of one's own."""
