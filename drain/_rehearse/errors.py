"""What keeps a rehearsal from being held."""


class RehearsalError(Exception):
    """Its text says what is wrong, with which value, and what to do."""
