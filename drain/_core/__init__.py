"""Pure decisions: no clock, no thread, no socket, no log, no third-party import."""
