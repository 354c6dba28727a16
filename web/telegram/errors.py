"""How Telegram says no. Apart from `web/telegram.py`, since the web processes do without aiogram.

Importing aiogram takes five seconds of CPU and 150 MB, so only the worker and the bot do.
"""


class TelegramError(Exception):
    """Telegram did not do it; the text says why, for people.

    `permanent`: this chat is closed to us until its owner links it again. `retry_after`: Telegram asks for silence
    towards it for so many seconds. With neither, another try may do.
    """

    def __init__(self, words: str, *, permanent: bool = False, retry_after: float | None = None) -> None:
        super().__init__(words)
        self.permanent = permanent
        self.retry_after = retry_after
