"""The demo: generated tasks, models as a team would bring its own, and an endpoint on loopback."""
