"""Training sequences of the speech expert: of clips, read or synthetic, and of texts that are only pronounced."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from transformers import PreTrainedTokenizerBase

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Message
from voicegraft.data.chat import chat_prompt, encode, sentence_ids
from voicegraft.data.lexicon import LETTER_NAMES, Lexicon
from voicegraft.data.prepared import Clip, PreparedSpeech, frame_counts
from voicegraft.data.sequences import SpeechSequence, TaughtSequence, WordSpelling, plain_sequence, speech_sequence
from voicegraft.data.spelling import Speller, Spells
from voicegraft.data.splits import Splits, text_key
from voicegraft.data.tokens import Tokens
from voicegraft.text.frontend import Frontend, spoken_text
from voicegraft.text.units import SILENCE, UNIT_CLASS, phones_by_word, words_of
from voicegraft.tokenizers.vocabulary import SpeechVocabulary

WORDS_PER_LIST = 8
LETTERS_PER_TOKEN = 4  # of English in the vocabulary of an LLM, about


class LazySequences(Sequence[SpeechSequence]):
    """Sequences that are made when they are asked for: those of thousands of hours do not fit into memory."""

    def __init__(self, clips: Sequence[Clip], lengths: Sequence[int], make: Callable[[Clip], SpeechSequence | None]):
        """
        Args:
            lengths: positions of each, about.
        """
        self.clips, self.lengths, self._make = clips, lengths, make

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        first = range(len(self))[index]
        for number in range(first, first + len(self)):  # the next one where the front end can say nothing of a text
            if (made := self._make(self.clips[number % len(self)])) is not None:
                return made
        raise VoicegraftError(
            f"none of the {len(self)} texts, such as {self.clips[index].utterance.text!r}, can be said: check the frontend"
        )


@dataclass(frozen=True)
class Mixture:
    """Several kinds of sequences, one behind the other."""

    kinds: Sequence[Sequence[SpeechSequence]]

    def __getitem__(self, number: int) -> SpeechSequence:
        for kind in self.kinds:
            if number < len(kind):
                return kind[number]
            number -= len(kind)
        raise IndexError(number)


class SequenceSource(Protocol):
    """Turns clips, and texts that nobody has read, into training sequences; None where that is impossible."""

    def of_clip(self, clip: Clip, train: bool) -> SpeechSequence | None: ...

    def of_text(self, number: int, text: str, train: bool) -> SpeechSequence | None: ...

    def length(self, clip: Clip) -> int | None:
        """About how many positions a clip takes, 0 if it cannot be used; None where only ``of_clip`` can tell."""
        ...


@dataclass(frozen=True)
class Plain:
    """Sequences from text straight to codes. There is nothing to learn from text alone."""

    vocabulary: SpeechVocabulary
    tokens: Tokens
    context: Context
    frontend: Frontend
    frames_per_step: int = 1
    max_frames: int = 500  # longer utterances are left out

    def of_clip(self, clip: Clip, train: bool) -> SpeechSequence | None:
        u = clip.utterance
        codes = self.tokens(clip)[:, 0]
        text = spoken_text(self.frontend, u.text)
        if len(codes) > self.max_frames or not text:
            return None
        text = vary(text, u.id) if train else text
        before = self.context.ids(text, random.Random(u.id))
        return plain_sequence(self.vocabulary, before, u.speaker, self.vocabulary.stream(codes), self.frames_per_step)

    def of_text(self, number: int, text: str, train: bool) -> SpeechSequence | None:
        return None

    def length(self, clip: Clip) -> int | None:
        num_frames = self.tokens.length(clip)
        if num_frames > self.max_frames:
            return 0
        text = len(clip.utterance.text) / LETTERS_PER_TOKEN
        return int(text + (2 if self.vocabulary.num_runs else 1) * num_frames / self.frames_per_step) + 4


@dataclass(frozen=True)
class Guided(Plain):
    """Sequences that spell each word and say its units, of clips whose units are timed and whose texts are in spoken form."""

    frame_rate: float = 50.0  # of the codes, Hz
    spelling: Spelling = field(kw_only=True)
    spells: Spells = "all"

    def of_clip(self, clip: Clip, train: bool) -> SpeechSequence | None:
        u = clip.utterance
        codes = self.tokens(clip)[:, 0]
        num_phones = sum(UNIT_CLASS[unit] != SILENCE for unit in u.units)  # each takes a frame at least
        if not u.units or not num_phones <= len(codes) <= self.max_frames:
            return None
        text = vary(u.text, u.id) if train else u.text
        words = self.spelling.words(text, u.units)
        if words is None:
            return None
        counts = frame_counts(u, len(codes), self.frame_rate)
        draw = random.Random(u.id)
        before = self.context.ids(text, draw)
        if self.spells == "unknown":
            words = some_unknown(words, draw)
        return speech_sequence(self.vocabulary, before, words, u.speaker, u.units, codes, counts, self.frames_per_step)

    def length(self, clip: Clip) -> int | None:
        return None

    def of_text(self, number: int, text: str, train: bool) -> SpeechSequence | None:
        units = self.spelling.lexicon.units(text)
        if units is None:
            return None
        draw = random.Random(number)
        text = vary(text, str(number)) if train else text
        words = self.spelling.words(text, units)
        if words is None:
            return None
        if train and draw.random() < 0.1:
            written, word, phones = self.spelling.initialism(draw)
            text, words, units = f"{written} {text}", [word, *words], [*units[:1], *phones, "|", *units[1:]]
        before = self.context.ids(text, draw)
        voice = draw.choice(self.vocabulary.voices)
        return speech_sequence(self.vocabulary, before, words, voice, units, frames_per_step=self.frames_per_step)


@dataclass(frozen=True)
class WithTeacher:
    """Sequences of clips as an expert and its teacher read them; texts that are only pronounced need no teacher."""

    own: Guided
    teacher: Guided

    def of_clip(self, clip: Clip, train: bool) -> SpeechSequence | None:
        own, seen = self.own.of_clip(clip, train), self.teacher.of_clip(clip, train)
        return None if own is None or seen is None else TaughtSequence(**vars(own), teacher=seen)

    def of_text(self, number: int, text: str, train: bool) -> SpeechSequence | None:
        return self.own.of_text(number, text, train)

    def length(self, clip: Clip) -> int | None:
        return None


def sentences_of(split: str, sentences: Sequence[str], speech: PreparedSpeech) -> list[str]:
    """The sentences of a split ("train" or "val"), in order; one that a clip says is on that clip's side."""
    rule = Splits.over(sentences)
    trained = {text_key(clip.utterance.text) for clip in speech.select("train")} if sentences else set()
    held = {text_key(clip.utterance.text) for clip in speech.select("val")} - trained if sentences else set()

    def is_held(sentence: str) -> bool:
        key = text_key(sentence)
        return key in held or (key not in trained and rule.holds_back(sentence))

    return [sentence for sentence in sentences if is_held(sentence) == (split != "train")]


class Spelling:
    """Turns texts and their units into the words of a training sequence."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, lexicon: Lexicon, speller: Speller | None = None):
        """
        Args:
            speller: one made of this lexicon before; making it takes a while.
        """
        self.tokenizer, self.lexicon = tokenizer, lexicon
        self.speller = speller or Speller(lexicon.entries.items())

    def words(self, text: str, units: Sequence[str]) -> list[WordSpelling] | None:
        """The words of ``text``, said as ``units``; None when a word has too few letters for its phones."""
        spelt = []
        for word, phones in zip(words_of(text), phones_by_word(units), strict=True):
            groups = self.speller.align(word.key, phones)
            if groups is None:
                return None
            spelt.append(WordSpelling(encode(self.tokenizer, word.written), word.letters, groups))
        return spelt

    def initialism(self, draw: random.Random) -> tuple[str, WordSpelling, list[str]]:
        """Some capitals that are read letter by letter (FBI): they are rare in books. With their units."""
        names = self.lexicon.entries | LETTER_NAMES
        known = [letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if letter.lower() in names]
        letters = "".join(draw.choices(known, k=draw.randint(2, 4)))
        groups = [names[letter.lower()] for letter in letters]
        return letters, WordSpelling(encode(self.tokenizer, letters), letters, groups), [p for g in groups for p in g]


class Context:
    """What stands before a sentence: nothing, or a question whose written answer it ends."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, share: float = 0.0, questions: Sequence[str] = ()):
        """
        Args:
            share: of the sentences that stand at the end of an answer to one of the questions.
        """
        self.tokenizer, self.share, self.questions = tokenizer, share, questions

    def ids(self, sentence: str, draw: random.Random) -> list[int]:
        """Backbone tokens of the context and the sentence."""
        if draw.random() >= self.share:
            return sentence_ids(self.tokenizer, sentence)
        prompt = chat_prompt(self.tokenizer, [Message.user(draw.choice(self.questions))])
        return [*prompt, *encode(self.tokenizer, sentence)]


def word_lists(lexicon: Lexicon, sentences: Sequence[str], count: int, seed: int) -> list[str]:
    """Lists of words, each drawn by the square root of how often the sentences say it, plus one.

    Running text would show a rare word once in a training, or never.
    """
    said = Counter(word.key for text in sentences for word in words_of(text))
    words = sorted(lexicon.entries)
    weights = np.sqrt([said[word] + 1 for word in words])
    draw = np.random.default_rng(seed)
    chosen = draw.choice(words, size=(count, WORDS_PER_LIST), p=weights / weights.sum())
    return [" ".join(row).capitalize() + "." for row in chosen]


def some_unknown(words: list[WordSpelling], draw: random.Random) -> list[WordSpelling]:
    """Those that are taken to be in no lexicon: in half of the sentences none, else one in five."""
    return [word for word in words if draw.random() < 0.2] if draw.random() < 0.5 else []


def vary(text: str, key: str) -> str:
    """People type carelessly: one text in ten loses its capitals, one in ten its final punctuation."""
    draw = random.Random(key).random()
    if draw < 0.1:
        return text.lower()
    return text.rstrip(".?!") if draw < 0.2 else text
