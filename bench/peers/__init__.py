"""The chats that Knock is compared with, and the ceilings of its server."""
