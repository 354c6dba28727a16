"""Codes that we hand out: signed, so that we recognise them, or random, and then only their hashes are kept."""

import hashlib
from functools import lru_cache

from itsdangerous import URLSafeTimedSerializer

from web.settings import Settings


def row_id(code: str) -> bytes:
    """The key of a code's row: a hash, so that a copy of the table is good for nothing."""
    return hashlib.sha256(code.encode()).digest()


@lru_cache(8)
def signer(settings: Settings, purpose: str) -> URLSafeTimedSerializer:
    """Signs and verifies values of one purpose: those of another are not good here."""
    # itsdangerous signs with the last key of the list; the settings name the newest first.
    return URLSafeTimedSerializer(list(reversed(settings.secret_keys)), salt=f"knock.{purpose}")
