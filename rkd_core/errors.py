"""The one exception that means: the input is wrong, and this line says what would be right."""

__all__ = ["UserError"]


class UserError(ValueError):
    """Bad input. Its message is one line that names the thing and what would be right.

    Command lines print it without a traceback and exit with code 2.
    """
