"""The text front end: written to spoken form, and sentences."""

from voicegraft.text.normalize import Normalized, Normalizer
from voicegraft.text.split import iter_sentences, split_sentences

__all__ = ["Normalized", "Normalizer", "iter_sentences", "split_sentences"]
