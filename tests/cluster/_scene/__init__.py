"""What the tests put into the cluster: servers, callers with books, and an eye on how pods end."""
