"""How long the parts wait for anything."""

BOUND = 20.0
"""Seconds after which everything here gives up waiting, with an error that says for what."""
