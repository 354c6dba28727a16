"""Usernames: which are allowed, and which could be taken for somebody else's.

They are made of ASCII only, so the tables of lookalikes in Unicode do not help: what looks alike here is a handful of
letters and digits.
"""

import re

from web.words import Sentence

USERNAME = re.compile(r"[A-Za-z0-9_.-]{3,32}")

# fmt: off
RESERVED = frozenset((
    "abuse", "admin", "administrator", "all", "bot", "deleted", "everybody", "everyone", "help", "here", "info",
    "knock", "mail", "me", "moderator", "mod", "nobody", "noreply", "null", "official", "operator", "owner",
    "postmaster", "root", "security", "settings", "staff", "support", "system", "team", "telegram", "webmaster",
))
# fmt: on
"""Names that would speak for the site."""


def lookalike(username: str) -> str:
    """Two names with the same value look alike. The column `users.lookalike` holds it too, computed by PostgreSQL."""
    folded = username.lower().translate(str.maketrans("01i_.", "oll--"))
    return re.sub("-+", "-", folded.replace("rn", "m").replace("vv", "w")).strip("-")


_RESERVED_LOOKALIKES = frozenset(map(lookalike, RESERVED))


def problem(username: str) -> Sentence | None:
    """Why nobody may have this name; None if somebody may. Written for the field of the form."""
    if not 3 <= len(username) <= 32:
        return Sentence("A username has 3 to 32 characters.")
    if not USERNAME.fullmatch(username):
        return Sentence("A username is made of the letters a to z, digits, and _ . -")
    if not (username[0] + username[-1]).replace("_", "x").isalnum() or not lookalike(username):
        return Sentence("A username begins and ends with a letter or a digit.")
    if lookalike(username) in _RESERVED_LOOKALIKES or lookalike(username).startswith("deleted-"):
        return Sentence("This name would look as if it spoke for the site. Choose another one.")
    return None


def display_problem(name: str) -> Sentence | None:
    """Why nobody can be called this; None if somebody can. Any script is welcome, and spaces within."""
    if len(name) > 40:
        return Sentence("A name has at most 40 characters.")
    # isprintable also refuses what turns the direction of text around, and what is invisible.
    if not name.isprintable():
        return Sentence("This name contains a character that cannot be shown.")
    if lookalike(name.replace(" ", "-")) in _RESERVED_LOOKALIKES:
        return Sentence("This name would look as if it spoke for the site. Choose another one.")
    return None
