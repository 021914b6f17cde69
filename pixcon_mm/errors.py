"""The one exception that tools show as a sentence, without a traceback."""


class UserError(RuntimeError):
    """A mistake the user can mend: says what is wrong, where, what to do."""
