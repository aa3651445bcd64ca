"""Embedding providers behind one protocol."""
