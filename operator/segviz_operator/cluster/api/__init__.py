"""The API server, and the names of what lies there."""
