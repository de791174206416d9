"""The text front end: written to spoken form, and sentences."""

from voicegraft.text.english.normalize import Normalized, Normalizer
from voicegraft.text.sentences import iter_sentences, split_sentences

__all__ = ["Normalized", "Normalizer", "iter_sentences", "split_sentences"]
