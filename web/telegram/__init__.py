"""Telegram's Bot API, the bot, and linking accounts."""
