"""The one way to tell a user that they made a mistake."""


class Refusal(Exception):
    """What is wrong, where, and what to do: shown as it is, without a traceback, with exit code 2."""
