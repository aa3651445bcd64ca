"""Writes vectors: fetches bells, asks the provider, commits under guard."""
