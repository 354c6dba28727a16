"""What Knock is compared with, and the ceilings above it."""
