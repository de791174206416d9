"""How words sound in sentences that flite reads: pronunciations of a lexicon; what it says is not kept."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from voicegraft.data.lexicon import Lexicon
from voicegraft.teachers.flite import place_words, timed_speech
from voicegraft.text.units import phones_by_word, words_of


@dataclass(frozen=True)
class SyntheticConfig:
    num_utterances: int = 3000  # sentences, each read once
    voices: tuple[str, ...] = ("rms", "slt", "awb", "kal16")  # flite voices
    shares: tuple[float, ...] = (0.45, 0.35, 0.1, 0.1)  # of the sentences, per voice
    seed: int = 0


def read_aloud(number: int, text: str, lexicon: Lexicon, config: SyntheticConfig) -> tuple[str, ...] | None:
    """The units of one sentence in a randomly drawn voice, which depends on the number and the seed alone.

    None when flite's words and ours cannot be matched.
    """
    voice = random.Random(f"{config.seed}/{number}").choices(config.voices, config.shares)[0]
    _, segments = timed_speech(text, voice, 1.0, 16_000)
    placed = place_words(text, lexicon, segments)
    return None if placed is None else placed[0]


def refine_with_context(lexicon: Lexicon, utterances: Iterable[tuple[str, tuple[str, ...]]]) -> Lexicon:
    """Replaces a word's isolated pronunciation by the one most often heard in the ``(text, units)`` pairs."""
    heard: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for text, units in utterances:
        for word, phones in zip(words_of(text), phones_by_word(units), strict=True):
            heard[word.key][phones] += 1
    return Lexicon({w: heard[w].most_common(1)[0][0] if heard[w] else p for w, p in lexicon.entries.items()})
