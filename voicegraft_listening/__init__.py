"""Listening tests by people, a package of its own beside voicegraft: the page, the key, the results and their scores.

Of voicegraft it needs audio files, levels, a few helpers and the statistics; nothing of voicegraft needs it.
"""
