"""When each word of a known text is said: forced alignment by pocketsphinx, which knows nothing of our models.

A pronunciation is a sequence of phones of the CMU set; our own units are these in lower case, with "ax" for "ah".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.judges.base import JUDGE_RATE, judge_samples
from voicegraft.evaluation.packages import need
from voicegraft.text.english.words import table
from voicegraft.text.units import PHONES

Arc = tuple[int, int, float] | tuple[int, int, float, str]  # from state, to state, probability, name of a word if any
Pronunciations = Mapping[str, Sequence[str]]  # lower-case word -> phones

CMU_PHONES = frozenset(p.upper() for p in PHONES if p != "ax")
FRAME_SEC = 0.01  # of pocketsphinx
_PAD_SEC = 0.25  # of silence at both ends: a word alone, cut close, is hard to recognise
_OFFSET_SEC = 0.005  # boundaries come this early: a frame's window begins at its time and reaches 26 ms on

_GRAPHEMES = table("graphemes")  # what a run of letters that is no word says
_LONGEST_GRAPHEME = 4
_SHORTEST_PIECE = 3  # letters; shorter words say little about how they sound inside of another


class AlignmentError(VoicegraftError):
    """The sound cannot be the words, or there is nothing to align."""


class TimedWord(NamedTuple):
    """A word and when it is said, in seconds from the start of the samples."""

    word: str
    start_sec: float
    end_sec: float


class GrammarDecoder:
    """pocketsphinx, told in which orders which words may come; silence and noises may stand between any two."""

    def __init__(self, beam: float = 1e-150) -> None:
        """beam: what is less likely than the best by more than this factor is given up."""
        # The grammar's own probabilities count as they are.
        self._decoder: Any = need("pocketsphinx").Decoder(
            samprate=JUDGE_RATE, loglevel="FATAL", lm=None, lw=1.0, wip=1.0, silprob=0.1,
            beam=beam, pbeam=beam, wbeam=beam, bestpath=False,
        )  # fmt: skip
        self._added: set[str] = set()

    def name(self, word: str, pronunciations: Pronunciations | None = None) -> str:
        """A name under which the decoder knows a lower-case word; the caller's pronunciation first, then its own."""
        given = (pronunciations or {}).get(word)
        if given is None:
            if self._decoder.lookup_word(word) is not None:
                return word
            given = self.spell(word)
        phones = ["AH" if p.lower() == "ax" else p.upper() for p in given]
        if not phones or not CMU_PHONES.issuperset(phones):
            raise VoicegraftError(
                f"the pronunciation of {word!r} is {' '.join(given) or 'empty'}; expected phones of the CMU set without "
                f"stress: {' '.join(sorted(CMU_PHONES))}"
            )
        return self.add(f"{word}={'-'.join(phones)}", phones)

    def add(self, name: str, phones: Sequence[str]) -> str:
        if name not in self._added:
            self._decoder.add_word(name, " ".join(phones), update=True)
            self._added.add(name)
        return name

    def spell(self, word: str) -> list[str]:
        """Phones of a word that is not in the dictionary: the fewest words and graphemes that its letters make."""
        best: list[tuple[float, list[str]]] = [(0.0, [])]
        for end in range(1, len(word) + 1):
            ways = []
            for start in range(end):
                piece, (cost, before) = word[start:end], best[start]
                known = self._decoder.lookup_word(piece) if len(piece) >= _SHORTEST_PIECE else None
                if known is not None:
                    ways.append((cost + 1.0, before + known.split()))
                elif len(piece) == 1 or (len(piece) <= _LONGEST_GRAPHEME and piece in _GRAPHEMES):
                    ways.append((cost + 1.2, before + _GRAPHEMES.get(piece, "").split()))
            best.append(min(ways))
        return best[-1][1]

    def decode(self, pcm: bytes, arcs: Sequence[Arc], final: int) -> list[TimedWord] | None:
        """16-bit samples at JUDGE_RATE -> the words on the best path from state 0 to the final one, None without any."""
        decoder = self._decoder
        decoder.add_fsg("grammar", decoder.create_fsg("grammar", 0, final, arcs))
        decoder.activate_search("grammar")
        decoder.reinit_feat()  # forgets what it heard before
        decoder.start_utt()
        decoder.process_raw(pcm, full_utt=True)
        decoder.end_utt()
        if decoder.hyp() is None:
            return None
        return [
            TimedWord(
                re.sub(r"\(\d+\)$", "", s.word),
                s.start_frame * FRAME_SEC + _OFFSET_SEC - _PAD_SEC,
                (s.end_frame + 1) * FRAME_SEC + _OFFSET_SEC - _PAD_SEC,
            )
            for s in decoder.seg()
            if s.word[0] not in "<[("  # silence, noise, steps without a word
        ]


class ForcedAligner:
    """Word times of a known text. One pass: a second one over phones and their states moved no boundary."""

    def __init__(self) -> None:
        self._decoder = GrammarDecoder()

    def align(
        self,
        samples: np.ndarray,
        sample_rate: int,
        words: Sequence[str],
        pronunciations: Pronunciations | None = None,
    ) -> list[TimedWord]:
        """Samples ``[T]`` -> the times of the words, in order; they may touch, never overlap.

        Args:
            words: letters and inner apostrophes, any case; `data.pronunciation.words_of` finds them in a text.
            pronunciations: phones of lower-case words, instead of the dictionary's.

        Raises:
            AlignmentError: there is no word or no sound, or the words cannot be said in so short a time.
        """
        names = [self._decoder.name(word.lower(), pronunciations) for word in words]
        if not names:
            raise AlignmentError("there is no word to align; expected at least one")
        pcm = judge_pcm(samples, sample_rate)
        arcs: list[Arc] = [(i, i + 1, 1.0, name) for i, name in enumerate(names)]
        said = self._decoder.decode(pcm, arcs, len(names)) if pcm else None
        if said is None:
            raise AlignmentError(
                f"{len(names)} words cannot be aligned to {len(samples) / sample_rate:.2f} s of sound; "
                "expected a recording of just these words"
            )
        last = len(samples) / sample_rate
        return [
            TimedWord(word, min(max(s.start_sec, 0.0), last), min(max(s.end_sec, 0.0), last))
            for word, s in zip(words, said, strict=True)
        ]


def judge_pcm(samples: np.ndarray, sample_rate: int) -> bytes:
    """What `GrammarDecoder.decode` takes: one level, JUDGE_RATE, padded with silence; b"" where there is no sound."""
    heard = judge_samples(samples, sample_rate)
    if not np.any(heard):
        return b""
    return (np.pad(heard, round(_PAD_SEC * JUDGE_RATE)) * 32767).astype(np.int16).tobytes()
