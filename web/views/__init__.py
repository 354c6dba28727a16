"""The pages and the socket: each view parses, asks the domain once or twice, and renders."""
