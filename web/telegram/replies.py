"""The bot's replies, in Telegram's HTML."""

from markupsafe import Markup

from web.words import gettext


def _said(message: str, **arguments: object) -> str:
    return Markup(message) % arguments  # noqa: S704 - the sentence is ours, and what is put into it is escaped


def linked(username: str) -> str:
    words = gettext("Connected. You are told here when somebody writes to <b>%(name)s</b>. Send /stop to end that.")
    return _said(words, name=username)


def stale(site_url: str) -> str:
    words = gettext(
        "That link is used up, or older than ten minutes. Open the settings for a new one: %(site)s/settings"
    )
    return _said(words, site=site_url)


def asked() -> str:
    return gettext("What is your username on the site?")


def requested(site_url: str, number: int) -> str:
    words = gettext(
        "Your number is <b>%(number)04d</b>. If somebody on %(site)s has that username, they see this Telegram account "
        "and the number in their settings there, and are asked whether to connect it. Nothing is sent here before they "
        "say yes."
    )
    return _said(words, site=site_url, number=number)


def stopped() -> str:
    return gettext("Done. This account is not connected to anybody now, and you hear no more from here.")


def help(site_url: str) -> str:
    words = gettext(
        "This bot knocks when somebody writes to you on %(site)s while you are logged out.\n\n"
        "To connect it, press <b>Connect Telegram</b> in the settings there, or send /start and then your username. "
        "Send /stop to hear no more."
    )
    return _said(words, site=site_url)
