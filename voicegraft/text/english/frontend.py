"""The English front end: numbers, symbols and abbreviations become words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from voicegraft.text.english.characters import Skipped
from voicegraft.text.english.heteronyms import pronunciations
from voicegraft.text.english.normalize import Normalizer
from voicegraft.text.english.sentences import iter_sentences, split_sentences
from voicegraft.text.english.spans import word_spans
from voicegraft.text.markup.annotations import read_annotations, take_pause
from voicegraft.text.markup.reader import read_markup
from voicegraft.text.spoken_form import SpokenForm, SpokenPart
from voicegraft.text.units import words_of


class EnglishFrontend:
    def __init__(self) -> None:
        self._normalizer = Normalizer()

    def sentences(self, pieces: Iterable[str]) -> Iterator[SpokenForm]:
        left_out = [Skipped()]  # since the last sentence
        for sentence in iter_sentences(read_markup(pieces, lambda run: left_out[0].add(run))):
            sentence, pause_sec = take_pause(sentence)
            written, _ = read_annotations(sentence)
            said = self._normalizer.analyse(written)
            for run in said.skipped:
                left_out[0].add(run)
            # Numbers grow when they are spelt out: what is said may be too long for one sentence.
            parts = split_sentences(said.text) if any(map(str.isalpha, said.text)) else []
            spans = iter(word_spans(written, said.text))
            cut = [SpokenPart(part, tuple(islice(spans, len(words_of(part)))), pronunciations(part)) for part in parts]
            if cut:
                cut[-1] = replace(cut[-1], pause_sec=pause_sec)
            yield SpokenForm(written, tuple(cut), left_out[0].runs)
            left_out[0] = Skipped()
        if left_out[0].runs:
            yield SpokenForm("", (), left_out[0].runs)
