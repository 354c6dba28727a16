"""Why a message, or a change of one, is not taken."""

from enum import StrEnum

from web import metrics
from web.words import Sentence


class Cause(StrEnum):
    INVALID = "invalid"
    """The message itself cannot be kept."""
    NOBODY = "nobody"
    """There is nobody to send it to."""
    DELETED = "deleted"
    """The recipient's account was deleted."""
    BLOCKED = "blocked"
    """Its author blocks the recipient."""
    CONTACTS = "contacts"
    """Its author is new here, and wrote to too many people for the first time."""
    NOTHING = "nothing"
    """There is no such message."""
    AUTHOR = "author"
    """It is somebody else's message."""
    REMOVED = "removed"
    NEWER = "newer"
    """The message was edited since its author looked at it."""
    PACE = "rate"
    """Its author sends too fast."""
    QUEUE = "queue"
    DATABASE = "database"
    ERROR = "error"


class Refused(Exception):
    """A send or a change that was refused, and why, for its author. `retry`: the same send may succeed later."""

    def __init__(self, cause: Cause, reason: Sentence, *, retry: bool = False) -> None:
        super().__init__(reason)
        self.cause = cause
        self.retry = retry
        metrics.REFUSED.labels(cause.value).inc()


def too_fast() -> Refused:
    """The author sends more than their pace allows."""
    return Refused(Cause.PACE, Sentence("That was too much at once; it is sent again in a moment."), retry=True)
