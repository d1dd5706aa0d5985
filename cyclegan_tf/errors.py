"""The one exception that means "the user can mend this"."""


class UserError(Exception):
    """A mistake the user can correct; command lines print it as one line and exit with status 2.

    The message says what is wrong, where, and what to do about it.
    """
