"""Benches, and the fault-injecting fake provider they and the tests run against."""
