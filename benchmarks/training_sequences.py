"""Made-up training sequences that are as long as those of real recordings."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from voicegraft.data.manifest import read_manifest
from voicegraft.data.sequences import SpeechSequence, WordSpelling, plain_sequence, speech_sequence
from voicegraft.fusion.speech_embedding import Layout
from voicegraft.text.units import UNITS
from voicegraft.tokenizers.vocabulary import SpeechVocabulary

FRAME_RATE = 50  # Hz, of the semantic tokens
# The first 347 recordings of LJSpeech 1.1: the mean and the spread of the logarithm of their seconds, the shortest and the
# longest of them, and the words that are read in a second.
LOG_SEC, LOG_SPREAD = 1.80, 0.38
SHORTEST_SEC, LONGEST_SEC = 1.5, 10.1
WORDS_PER_SEC = 2.6
_LETTERS_PER_WORD = 5
_LONG_WORD = 8  # letters; a longer one takes two tokens of a large text vocabulary, any other takes one


@dataclass(frozen=True)
class Recording:
    """What a training sequence's length comes from."""

    words: tuple[str, ...]
    num_frames: int


def real_recordings(folder: Path) -> list[Recording]:
    """Of a folder with ``manifest.jsonl``: its words and durations."""
    return [_recording(u.text.split(), u.duration_sec) for u in read_manifest(folder)]


def fitted_recordings(count: int) -> list[Recording]:
    """As many as are asked for, log-normal as LJSpeech's."""
    draw = np.random.default_rng(0)
    sec = np.clip(draw.lognormal(LOG_SEC, LOG_SPREAD, count), SHORTEST_SEC, LONGEST_SEC)
    return [_recording(["a" * _LETTERS_PER_WORD] * round(WORDS_PER_SEC * float(s)), float(s)) for s in sec]


def long_recordings(count: int, length: int) -> list[Recording]:
    """Recordings whose sequences have at least ``length`` positions."""
    sec = length / FRAME_RATE
    return [_recording(["a" * _LETTERS_PER_WORD] * round(WORDS_PER_SEC * sec), sec)] * count


def _recording(words: Sequence[str], sec: float) -> Recording:
    return Recording(tuple(words), max(1, round(sec * FRAME_RATE)))


def speech_vocabulary(layout: Layout, num_codes: int) -> SpeechVocabulary:
    return SpeechVocabulary(("speaker",), UNITS if layout == "guided" else (), num_codes)


def made_up(
    recording: Recording, vocabulary: SpeechVocabulary, num_text: int, layout: Layout, seed: int
) -> SpeechSequence:
    """Random text ids and codes, as many as the recording has."""
    draw = random.Random(seed)
    codes = np.array([draw.randrange(vocabulary.num_codes) for _ in range(recording.num_frames)])
    ids = [[draw.randrange(num_text) for _ in range(1 + (len(word) > _LONG_WORD))] for word in recording.words]
    sentence = [i for word in ids for i in word]
    voice = vocabulary.voices[0]
    if layout == "plain":
        return plain_sequence(vocabulary, sentence, voice, vocabulary.stream(codes))
    letters = ["".join(c for c in word.lower() if "a" <= c <= "z") or "a" for word in recording.words]
    # English has about five phones to six letters.
    groups = [[() if i % 6 == 5 else (draw.choice(UNITS),) for i in range(len(word))] for word in letters]
    words = [WordSpelling(i, word, phones) for i, word, phones in zip(ids, letters, groups, strict=True)]
    units = ["^"] + [phone for word in groups for phones in (*word, ("|",)) for phone in phones]
    counts = np.diff(np.linspace(0, len(codes), len(units) + 1).astype(int))
    return speech_sequence(vocabulary, sentence, words, voice, units, codes, counts)


def cut(sequence: SpeechSequence, length: int) -> SpeechSequence:
    """The first positions."""
    return SpeechSequence(**{f.name: getattr(sequence, f.name)[:length] for f in fields(SpeechSequence)})
