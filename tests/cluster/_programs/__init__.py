"""What runs in the tests' pods, on top of the examples' image: a server that says which pod it is, and callers that keep books."""
