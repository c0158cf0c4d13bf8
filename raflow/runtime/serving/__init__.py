"""HTTP: replicas that answer with an ASGI application on one shared socket, and the loop that keeps them."""
