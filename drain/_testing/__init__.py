"""The parts of drain.testing."""
