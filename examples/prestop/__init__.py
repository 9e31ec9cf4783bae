"""A server that cannot be changed, behind `drain-prestop --standalone`. README.md beside it says how."""
