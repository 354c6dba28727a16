"""The outbox: whom to notify on Telegram, when, and what became of it."""
