"""The processes that Knock runs as."""
