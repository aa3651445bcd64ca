"""What every service process needs: start, end, relay, watchdog, spaces, operations port."""
