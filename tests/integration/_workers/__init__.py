"""Groups of worker processes under test."""
