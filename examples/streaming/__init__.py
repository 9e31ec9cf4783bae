"""Long streams: a server that ends them in good order, and a client that goes on elsewhere. demo.py shows both."""
