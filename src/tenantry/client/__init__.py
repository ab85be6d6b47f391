"""The Python SDK: speaks HTTP, imports nothing of the server."""
