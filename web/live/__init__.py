"""Open sockets, and how frames reach those of every process."""
