"""The English front end: numbers, symbols and abbreviations become words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from voicegraft.text.english.characters import Skipped
from voicegraft.text.english.heteronyms import pronunciations
from voicegraft.text.english.reader import read
from voicegraft.text.english.sentences import iter_sentences, split_sentences
from voicegraft.text.markup.annotations import read_annotations, take_pause
from voicegraft.text.markup.reader import read_markup
from voicegraft.text.spoken_form import SpokenForm, SpokenPart
from voicegraft.text.units import WORD


class EnglishFrontend:
    def sentences(self, pieces: Iterable[str], hurry: bool = False) -> Iterator[SpokenForm]:
        left_out = [Skipped()]  # since the last sentence
        for sentence in iter_sentences(read_markup(pieces, lambda run: left_out[0].add(run)), hurry=hurry):
            sentence, pause_sec = take_pause(sentence)
            written, annotations = read_annotations(sentence)
            reading = read(written, left_out[0].add, annotations)
            # Numbers grow when they are spelt out: what is said may be too long for one sentence.
            parts = split_sentences(reading.text) if reading.text else []
            spans = iter(reading.spans)
            cut = [
                SpokenPart(part, tuple(islice(spans, len(WORD.findall(part)))), pronunciations(part)) for part in parts
            ]
            if cut:
                cut[-1] = replace(cut[-1], pause_sec=pause_sec)
            yield SpokenForm(written, tuple(cut), left_out[0].runs)
            left_out[0] = Skipped()
        if left_out[0].runs:
            yield SpokenForm("", (), left_out[0].runs)
