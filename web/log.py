"""The log: text for a terminal, or JSON for a log collector, without secrets."""

import logging
import re
import secrets
from contextvars import ContextVar
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from web.settings import Settings

_request_id: ContextVar[str] = ContextVar("request_id", default="-")
_events = logging.getLogger("knock.events")

# PostgreSQL's errors quote the row that they are about; others may quote a hash or the bot's token.
SECRETS = re.compile(r"DETAIL:.*?(?=\n\nThe above|\n\[SQL|\nCONTEXT:|\Z)|\$argon2\S+|\d{6,}:[\w-]{30,}", re.DOTALL)
HIDDEN = "(hidden)"


def configure(settings: Settings) -> None:
    handler = logging.StreamHandler()
    if settings.log_format == "json":
        handler.setFormatter(_Json("{asctime}{levelname}{name}{request_id}{message}", style="{"))
    else:
        handler.setFormatter(_WithoutSecrets("%(asctime)s %(levelname)-7s %(name)s [%(request_id)s]: %(message)s"))
    handler.addFilter(_complete)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # An entry for every request and socket would hide those that matter.
    for name in ("uvicorn.error", "uvicorn.access", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)


def new_request_id(given: str | None = None) -> str:
    """The id of the request that begins now, by default a random one; it stands in each of its lines."""
    chosen = given or secrets.token_hex(8)
    _request_id.set(chosen)
    return chosen


def event(name: str, **fields: object) -> None:
    """Log what happened to an account, with fields that a log collector can search. No field is a secret."""
    said = " ".join(f"{key}={value!r}" for key, value in fields.items())
    _events.info("%s %s", name, said, extra={"event": name, **fields})


def hide(text: str) -> str:
    """The text without secrets."""
    return SECRETS.sub(HIDDEN, text)


def _complete(record: logging.LogRecord) -> bool:
    """Add the request's id to a line, and take secrets out of it."""
    record.request_id = _request_id.get()
    record.msg, record.args = hide(record.getMessage()), None
    return True


class _WithoutSecrets(logging.Formatter):
    def formatException(self, ei: Any) -> str:  # noqa: N802
        return hide(super().formatException(ei))


class _Json(_WithoutSecrets, JsonFormatter):
    pass
