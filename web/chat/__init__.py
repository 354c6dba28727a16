"""Conversations and their messages: written, cached, listed and rendered."""
