"""The admin socket: what may be asked of the servers of a process from outside, and who asks."""
