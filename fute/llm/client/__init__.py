"""Asking: layers from what was answered before to what may be sent now, each around the next."""
