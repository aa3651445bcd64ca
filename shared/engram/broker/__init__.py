"""The broker: topology, connection and watchdog."""
