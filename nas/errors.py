"""Errors that commands turn into one line: what was expected, what came, what to do."""


class RequestError(ValueError):
    """A command cannot do what it is asked; the message says what was expected, what came."""
