"""Sinks: tiny functions that turn events into log lines, and later metrics. Nothing else in drain logs."""
