"""A site's process: its heartbeat, its errors, its random numbers."""
