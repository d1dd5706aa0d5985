"""The exception for mistakes that the user can correct."""


class UserError(Exception):
    """A mistake that the user can correct. Commands print it as one line and exit with status 2.

    The message says what is wrong with which value, and what to do.
    """
