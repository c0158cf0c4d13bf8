"""The ASGI application of a Flow: its routes, limits, documents, and what calls get injected."""
