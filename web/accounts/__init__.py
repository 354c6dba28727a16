"""Users, their passwords and sessions, and the forms and limits in front of them."""
