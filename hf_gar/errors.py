"""The error that a user can fix."""


class HfGarError(Exception):
    """What was expected, what came, and what to do; the command line prints it without a traceback."""
