"""How the pocket pack, which ships inside of voicegraft, is made from raw corpora: ``python -m pocket.build``."""
