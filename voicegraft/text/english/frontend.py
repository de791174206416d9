"""The English front end: numbers, symbols and abbreviations become words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from voicegraft.text.english.normalize import Normalizer
from voicegraft.text.english.sentences import iter_sentences, split_sentences
from voicegraft.text.english.spans import word_spans
from voicegraft.text.spoken_form import SpokenForm, SpokenPart
from voicegraft.text.units import words_of


class EnglishFrontend:
    def __init__(self) -> None:
        self._normalizer = Normalizer()

    def sentences(self, pieces: Iterable[str]) -> Iterator[SpokenForm]:
        for written in iter_sentences(pieces):
            said = self._normalizer.analyse(written)
            # Numbers grow when they are spelt out: what is said may be too long for one sentence.
            parts = split_sentences(said.text) if any(map(str.isalpha, said.text)) else []
            spans = iter(word_spans(written, said.text))
            cut = [SpokenPart(part, tuple(islice(spans, len(words_of(part))))) for part in parts]
            yield SpokenForm(written, tuple(cut), said.skipped)
