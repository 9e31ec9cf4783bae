"""The charts, rendered by a real helm. (tests/cluster installs them.)"""
