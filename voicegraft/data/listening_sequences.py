"""Training sequences of what hears: a prompt with speech in it, speech and text in turns in one sequence, batches by number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from transformers import PreTrainedTokenizerBase

from voicegraft.core.messages import Part, Waveform
from voicegraft.data.batches import LengthBuckets
from voicegraft.data.chat import AUDIO, AnsweredQuestion, chat_prompt
from voicegraft.data.listening_tasks import HEARD, prompt_of
from voicegraft.data.prepared import Clip
from voicegraft.data.responses import Response, Tokens
from voicegraft.data.splits import text_key

_WORD_STARTS = ("Ġ", "▁", " ")  # of a token's piece: byte-level and sentencepiece tokenizers
_FRAMES_PER_POSITION = 8  # about; for batches of like length
# Where audio stands in a prompt that is made before the audio is looked at.
_PLACE = Waveform(np.zeros(0, dtype=np.float32), 16_000)


@dataclass(frozen=True)
class Interleaving:
    """Spans of words stand as speech or as text in one sequence, so that both are learnt to mean the same."""

    share: float = 0.0  # of the sequences with speech that are interleaved
    text: float = 0.5  # of the words of such a sequence, those that stand as text, at the first step
    final_text: float = 0.5  # at the last step; in between on a line
    max_words: int = 6  # of one span

    def __post_init__(self) -> None:
        if not all(0 <= share <= 1 for share in (self.share, self.text, self.final_text)) or self.max_words < 1:
            raise ValueError("expected shares from 0 to 1 and spans of at least one word")

    def text_at(self, progress: float) -> float:
        return self.text + (self.final_text - self.text) * progress


@dataclass(frozen=True)
class Cut:
    """A piece of a clip's speech, in frames; ``end`` None: to the end."""

    clip: Clip
    begin: int = 0
    end: int | None = None


TokensOf = Callable[[Clip], np.ndarray]  # a clip's text in the backbone's tokens [M, 3]: id, first frame, last frame


@dataclass(frozen=True, eq=False)
class ListeningSequence:
    """One training sequence: its ids with ``AUDIO`` once for each piece of speech, and what is known of the answer."""

    item: AnsweredQuestion
    cuts: tuple[Cut, ...]
    tokens: Tokens


def beside(audio: Part, transcript: str) -> tuple[Part, ...]:
    """Audio with the recogniser's transcript as text behind it, as in DeSTA2 (arXiv 2409.20007)."""
    return (audio, f"\n{transcript}") if transcript else (audio,)


def interleaved(
    clip: Clip, said: np.ndarray, pieces: Sequence[str], text: float, max_words: int, draw: np.random.Generator
) -> tuple[list[int], tuple[Cut, ...]]:
    """A clip's words in turns as text and as speech: ids with ``AUDIO`` for each stretch of speech, and these stretches.

    Together the stretches and the words that stand as text are the whole clip: silence belongs to the word before it. Speech
    stands at least once.

    Args:
        said: the clip's text in the backbone's tokens ``[M, 3]``: id, and the frames at which each begins and ends.
        pieces: of the tokens, by which words are told.
        text: share of the words that stand as text.
    """
    starts = [i for i, piece in enumerate(pieces) if i == 0 or piece.startswith(_WORD_STARTS)]
    kinds: list[bool] = []  # of each word, whether it stands as text
    while len(kinds) < len(starts):
        kinds += [bool(draw.random() < text)] * int(draw.integers(1, max_words + 1))
    kinds = kinds[: len(starts)]
    if all(kinds):
        kinds[int(draw.integers(len(kinds)))] = False
    bounds = [*starts, len(said)]
    frames = [0, *(int(said[start, 1]) for start in starts[1:]), None]
    ids: list[int] = []
    cuts: list[Cut] = []
    for is_text, group in groupby(range(len(starts)), key=kinds.__getitem__):
        words = list(group)
        first, last = words[0], words[-1]
        begin, end = frames[first] or 0, frames[last + 1]
        if is_text or begin == end:  # of a word without a frame of its own nothing can be heard
            ids += said[bounds[first] : bounds[last + 1], 0].tolist()
        else:
            ids.append(AUDIO)
            cuts.append(Cut(clip, begin, end))
    return (ids, tuple(cuts)) if cuts else ([AUDIO], (Cut(clip),))


class Portion:
    """Rows of one kind, each with the clips that say its transcript; draws those of like length."""

    def __init__(
        self,
        rows: Sequence[tuple[Response, Tokens]],
        clips: Mapping[str, Sequence[Clip]],
        tokenizer: PreTrainedTokenizerBase,
        budget: int,
        frames_per_sec: float,
        transcript_of: Callable[[Clip], str] | None = None,
    ):
        """
        Args:
            clips: key of a text -> who says it.
            budget: positions of a batch.
            transcript_of: what stands beside a clip's speech as text; None: nothing does.
        """
        self.tokenizer, self.transcript_of = tokenizer, transcript_of
        self.rows: list[tuple[Response, Tokens, Sequence[Clip]]] = []
        lengths = []
        for response, tokens in rows:
            said = clips.get(text_key(response.text), ()) if HEARD in response.wording else ()
            if HEARD in response.wording and not said:
                continue
            prompt = len(self._prompt(response, ""))
            self.rows.append((response, tokens, said))
            seconds = max((clip.utterance.duration_sec for clip in said), default=0.0)
            lengths.append(prompt + len(tokens.ids) + round(seconds * frames_per_sec / _FRAMES_PER_POSITION))
        self.buckets = LengthBuckets(lengths, [1.0] * len(lengths), budget) if lengths else None

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, number: int, seed: int) -> list[int]:
        assert self.buckets is not None
        return [int(i) for i in self.buckets.draw(number, seed)]

    def sequence(
        self, row: int, draw: np.random.Generator, words: Interleaving, progress: float, tokens_of: TokensOf | None
    ) -> ListeningSequence:
        """A row as a sequence; by chance in one of its voices, and with some of its words as text."""
        response, tokens, clips = self.rows[row]
        if not clips:
            prompt = self._prompt(response, "")
            return ListeningSequence(AnsweredQuestion([*prompt, *tokens.ids.tolist()], len(prompt)), (), tokens)
        clip = clips[int(draw.integers(len(clips)))]
        transcript = "" if self.transcript_of is None else self.transcript_of(clip)
        prompt = self._prompt(response, transcript)
        cuts: tuple[Cut, ...] = (Cut(clip),)
        if tokens_of is not None and draw.random() < words.share:
            place, said = prompt.index(AUDIO), tokens_of(clip)
            pieces = self.tokenizer.convert_ids_to_tokens(said[:, 0].tolist())
            inside, cuts = interleaved(clip, said, pieces, words.text_at(progress), words.max_words, draw)
            prompt = [*prompt[:place], *inside, *prompt[place + 1 :]]
        return ListeningSequence(AnsweredQuestion([*prompt, *tokens.ids.tolist()], len(prompt)), cuts, tokens)

    def _prompt(self, response: Response, transcript: str) -> list[int]:
        messages = prompt_of(response.wording, *beside(_PLACE, transcript), history=response.turns)
        return chat_prompt(self.tokenizer, messages)
