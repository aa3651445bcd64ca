"""Scheduled sweeps: reconcile, index, expiry."""
