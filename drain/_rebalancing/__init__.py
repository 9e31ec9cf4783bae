"""Rebalancing from the server's side: when its service has grown, a server rotates its connections once."""
