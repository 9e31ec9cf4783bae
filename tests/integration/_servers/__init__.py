"""Servers for the scenario suite: one service in both flavours, served in this process or in one of its own."""
