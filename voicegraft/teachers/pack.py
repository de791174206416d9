"""A voicegraft pack as a teacher."""

from __future__ import annotations

from pathlib import Path

from voicegraft.inference.report import SpokenSentence
from voicegraft.inference.speaker import Speaker
from voicegraft.teachers.base import Said, Unsayable
from voicegraft.text.units import START, words_of


class PackTeacher:
    """Times of units are those that the pack itself reports; a sentence that fails is not said."""

    licence = "that of the pack: see its CARD.md"
    has_speed = False

    def __init__(self, folder: Path | None = None) -> None:
        """
        Args:
            folder: of the pack; None: the one that ships.
        """
        self._speaker = Speaker.load(folder, num_threads=1)  # processes share the cores
        self.name = f"voicegraft pack {self._speaker.pack.header.name} ({self._speaker.fingerprint})"
        self.voices = tuple(self._speaker.voices)
        self.sample_rate = self._speaker.sample_rate

    def say(self, text: str, voice: str, speed: float, seed: int) -> Said:
        speech = self._speaker.say(text, voice, seed)
        if speech.status != "ok":
            raise Unsayable("; ".join(speech.report.warnings) or f"the pack's status is {speech.status}")
        units, ends = _units(speech.sentences, speech.duration_sec)
        return Said(speech.samples, units, ends)


def _units(sentences: tuple[SpokenSentence, ...], duration_sec: float) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Units and their ends, from the times of words; nothing where words and times do not agree."""
    words = [word for sentence in sentences for word in sentence.words]
    marks = [word.boundary for sentence in sentences for word in words_of(sentence.spoken)]
    if not words or len(words) != len(marks):
        return (), ()
    following = [*(word.start_sec for word in words[1:]), round(duration_sec, 3)]
    units, ends = [START], [words[0].start_sec]
    for word, mark, next_sec in zip(words, marks, following, strict=True):
        units += [*(phone.phone for phone in word.phones), mark]
        ends += [*(phone.end_sec for phone in word.phones), next_sec]
    return tuple(units), tuple(ends)
