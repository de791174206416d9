"""Sentences read by flite, and how words sound in them; pre-training only."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from voicegraft.data.lexicon import Lexicon
from voicegraft.data.manifest import Utterance
from voicegraft.teachers.flite import place_words, timed_speech
from voicegraft.text.units import phones_by_word, words_of


@dataclass(frozen=True)
class SyntheticConfig:
    num_utterances: int = 14_000  # sentences, each read once
    voices: tuple[str, ...] = ("rms", "slt", "awb", "kal16")  # flite voices
    shares: tuple[float, ...] = (0.45, 0.35, 0.1, 0.1)  # of the sentences, per voice
    slowest: float = 1.25  # duration stretch, drawn uniformly
    fastest: float = 0.95  # duration stretch
    seed: int = 0


def read_aloud(
    number: int, text: str, split: str, lexicon: Lexicon, config: SyntheticConfig, sample_rate: int
) -> tuple[Utterance, np.ndarray] | None:
    """One sentence in a randomly drawn voice and tempo: the utterance and its samples ``[T]`` at ``sample_rate`` Hz.

    The draw depends on the number and the seed alone. None when flite's words and ours cannot be matched.
    """
    draw = random.Random(f"{config.seed}/{number}")
    voice = draw.choices(config.voices, config.shares)[0]
    stretch = draw.uniform(config.fastest, config.slowest)
    samples, segments = timed_speech(text, voice, stretch, sample_rate)
    placed = place_words(text, lexicon, segments)
    if placed is None:
        return None
    utterance = Utterance(
        id=f"flite-{number:06d}",
        audio="",
        text=text,
        speaker=f"flite-{voice}",
        split=split,
        duration_sec=len(samples) / sample_rate,
        units=placed[0],
        unit_ends_sec=placed[1],
        synthetic=True,
    )
    return utterance, samples


def refine_with_context(lexicon: Lexicon, utterances: Iterable[tuple[str, tuple[str, ...]]]) -> Lexicon:
    """Replaces a word's isolated pronunciation by the one most often heard in the aligned ``(text, units)`` pairs."""
    heard: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for text, units in utterances:
        for word, phones in zip(words_of(text), phones_by_word(units), strict=True):
            heard[word.key][phones] += 1
    return Lexicon({w: heard[w].most_common(1)[0][0] if heard[w] else p for w, p in lexicon.entries.items()})
