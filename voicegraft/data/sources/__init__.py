"""Readers of the layouts that recordings come in; all yield the same records."""
