"""The bot's replies, in Telegram's HTML."""

from markupsafe import escape

HELP = (
    "This bot knocks when somebody writes to you on {site} while you are logged out.\n\n"
    "To connect it, press <b>Connect Telegram</b> in the settings there, or send /start and then your username. "
    "Send /stop to hear no more."
)
REQUESTED = (
    "Your number is <b>{number:04}</b>. If somebody on {site} has that username, they see this Telegram account and "
    "the number in their settings there, and are asked whether to connect it. Nothing is sent here before they say yes."
)


def linked(username: str) -> str:
    return f"Connected. You are told here when somebody writes to <b>{escape(username)}</b>. Send /stop to end that."


def stale(site_url: str) -> str:
    return (
        f"That link is used up, or older than ten minutes. Open the settings for a new one: {escape(site_url)}/settings"
    )


def asked() -> str:
    return "What is your username on the site?"


def requested(site_url: str, number: int) -> str:
    return REQUESTED.format(site=escape(site_url), number=number)


def stopped() -> str:
    return "Done. This account is not connected to anybody now, and you hear no more from here."


def help(site_url: str) -> str:
    return HELP.format(site=escape(site_url))
