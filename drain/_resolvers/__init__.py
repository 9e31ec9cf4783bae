"""Resolvers: what turns a target into endpoints. One module a scheme."""
