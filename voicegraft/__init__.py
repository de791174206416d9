"""voicegraft: take any text LLM and make it speak without forgetting."""

__version__ = "0.1.0"
