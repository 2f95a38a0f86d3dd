class ReleaseFailed(Exception):
    """What is wrong and what to do about it, for the person at the terminal."""
