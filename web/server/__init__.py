"""The processes that Knock runs as."""


class CannotStart(Exception):
    """The text is for the operator."""
