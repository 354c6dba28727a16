"""The pages and the socket: each view parses, makes one or two calls, and renders."""
