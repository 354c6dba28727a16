"""The one exception of calls to Telegram, in a module of its own so that web processes need not import aiogram.

Importing aiogram takes five seconds of CPU and 150 MB, so only the bot does, and a worker with a token.
"""


class TelegramError(Exception):
    """A call failed; the text says why, for people.

    `permanent`: the chat is closed to us until its owner links it again. `retry_after`: Telegram demands a pause of so
    many seconds for this chat. With neither, another try may succeed.
    """

    def __init__(self, words: str, *, permanent: bool = False, retry_after: float | None = None) -> None:
        super().__init__(words)
        self.permanent = permanent
        self.retry_after = retry_after
