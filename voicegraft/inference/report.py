"""What became of a text that was spoken: its sentences and words with their times, and what went wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

from voicegraft.guard.guarded import SpeechFailure, SpokenUnit
from voicegraft.guard.monitor import Fault
from voicegraft.text.units import BOUNDARIES, START, words_of


@dataclass(frozen=True)
class SpokenPhone:
    phone: str  # of the CMU/flite set
    start_sec: float  # in the whole stream
    end_sec: float


@dataclass(frozen=True)
class SpokenWord:
    word: str  # as it was said: letters and inner apostrophes
    span: tuple[int, int]  # of the written sentence, which it reads; "five dollars" shares that of "$5"
    start_sec: float  # in the whole stream
    end_sec: float
    phones: tuple[SpokenPhone, ...]


@dataclass(frozen=True)
class SpokenSentence:
    written: str  # as it stands in the text
    spoken: str  # as it was said, in words
    start_sec: float  # in the whole stream
    end_sec: float
    words: tuple[SpokenWord, ...]
    status: str  # ok; cut (a bound ended a sound or a spelling); failed (its end is missing: no retry mended a fault)
    faults: tuple[Fault, ...] = ()  # that the guard found
    unmended: tuple[Fault, ...] = ()  # those that can be heard
    num_retries: int = 0


@dataclass
class SpeechReport:
    """Sums over a text; complete when its stream is drained. It does not grow with the text."""

    skipped: list[str] = field(default_factory=list)  # different runs of characters that were left out
    duration_sec: float = 0.0  # of audio
    wall_sec: float = 0.0
    first_audio_sec: float = 0.0  # from the request to the first chunk
    status: str = "ok"  # the worst of its sentences: ok, cut or failed; or empty (nothing to say)
    num_sentences: int = 0
    num_words: int = 0
    num_faults: int = 0  # that the guard found, mended or not
    num_retries: int = 0
    num_failed: int = 0  # sentences
    first_failed: str = ""  # the first of them

    def add(self, sentence: SpokenSentence) -> None:
        """Counts a sentence that has been said."""
        self.num_sentences += 1
        self.num_words += len(sentence.words)
        self.num_faults += len(sentence.faults)
        self.num_retries += sentence.num_retries
        if sentence.status == "failed":
            self.num_failed += 1
            self.first_failed = self.first_failed or f"{sentence.spoken!r} ({sentence.faults[-1].kind})"
        self.status = max(self.status, sentence.status, key=("empty", "ok", "cut", "failed").index)

    def leave_out(self, runs: tuple[str, ...], most: int = 100) -> None:
        """Adds what cannot be said."""
        self.skipped += [run for run in dict.fromkeys(runs) if run not in self.skipped][: most - len(self.skipped)]

    @property
    def warnings(self) -> list[str]:
        """What a listener should know, a line each."""
        found = []
        if self.skipped:
            found.append(f"left out what the voice cannot say: {' '.join(self.skipped)}")
        if self.num_failed:
            found.append(
                f"{self.num_failed} of {self.num_sentences} sentences could not be said to their end, the first: "
                f"{self.first_failed}; try another --seed, or write them otherwise"
            )
        if self.status == "cut":
            found.append("a sound or a spelling was cut short at its bound; listen before you use it")
        return found

    def raise_for_status(self) -> None:
        """
        Raises:
            SpeechFailure: a sentence was not said to its end.
        """
        if self.num_failed:
            raise SpeechFailure(self.warnings[-1])


def spoken_words(
    spans: list[tuple[int, int]], pieces: list[tuple[str, list[SpokenUnit], float]], frame_sec: float
) -> tuple[SpokenWord, ...]:
    """Words of one written sentence with their times.

    Args:
        spans: for each word what it says of the written sentence.
        pieces: for each piece in which it was said: its text in spoken form, its units and where it starts, in seconds.
    """
    words: list[SpokenWord] = []
    for text, units, piece_sec in pieces:
        names = iter(words_of(text))
        phones: list[SpokenPhone] = []
        for unit in units:
            if unit.unit not in (START, *BOUNDARIES):
                start = piece_sec + unit.start_frame * frame_sec
                end = start + unit.num_frames * frame_sec
                phones.append(SpokenPhone(unit.unit, round(start, 3), round(end, 3)))
            elif phones and (name := next(names, None)) is not None:
                begins, ends = phones[0].start_sec, phones[-1].end_sec
                words.append(SpokenWord(name.letters, spans[len(words)], begins, ends, tuple(phones)))
                phones = []
    return tuple(words)
