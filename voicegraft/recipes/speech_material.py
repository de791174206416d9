"""What the speech expert learns from: sequences of recordings, of synthetic speech, and of pronunciation alone, mixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tqdm import tqdm

from voicegraft.data.batches import LengthBuckets
from voicegraft.data.lexicon import Lexicon
from voicegraft.data.prepared import PreparedSpeech
from voicegraft.data.sequences import SpeechSequence
from voicegraft.data.speech_sequences import LazySequences, Mixture, SequenceSource, word_lists
from voicegraft.train.config import LoopConfig


@dataclass(frozen=True)
class Round:
    loop: LoopConfig = field(default_factory=LoopConfig)
    human_share: float = 0.35  # of the sequences' positions
    synthetic_share: float = 0.45  # the rest is pronunciation alone


@dataclass(frozen=True)
class Material:
    """Sequences of one split, by kind."""

    human: Sequence[SpeechSequence]
    synthetic: Sequence[SpeechSequence]
    pronunciation: Sequence[SpeechSequence]

    def mixed(self, round: Round, budget: int) -> tuple[Mixture, LengthBuckets]:
        """All sequences by one numbering, and buckets that draw the kinds by the round's shares of positions."""
        shares = (round.human_share, round.synthetic_share, 1 - round.human_share - round.synthetic_share)
        kinds = (self.human, self.synthetic, self.pronunciation)
        lengths: list[int] = []
        weights: list[float] = []
        for share, kind in zip(shares, kinds, strict=True):
            own = kind.lengths if isinstance(kind, LazySequences) else [len(s) for s in kind]
            lengths += own
            weights += [share / max(1, sum(own))] * len(own)
        return Mixture(kinds), LengthBuckets(lengths, weights, budget)


def material(
    source: SequenceSource,
    speech: PreparedSpeech,
    sentences: Sequence[str],
    lexicon: Lexicon | None,
    split: str,
    num_sentences: int,
    num_lists: int,
) -> Material:
    """Builds all sequences of a split.

    Args:
        sentences: of the split; those that are only pronounced are taken from the end, where synthesis has not been.
        lexicon: whose words are pronounced in lists; None leaves them out.
        num_sentences: that are only pronounced; num_lists: lists of words.
    """
    train = split == "train"

    def of_clips(synthetic: bool) -> Sequence[SpeechSequence]:
        clips = speech.select(split, synthetic=synthetic)
        lengths = [source.length(clip) for clip in clips]
        if None not in lengths:
            usable = [(clip, length) for clip, length in zip(clips, lengths, strict=True) if length]
            return LazySequences(
                [clip for clip, _ in usable], [length for _, length in usable], lambda clip: source.of_clip(clip, train)
            )
        bar = tqdm(clips, desc=f"{split} sequences", unit="clip", mininterval=5)
        return [s for s in (source.of_clip(clip, train) for clip in bar) if s is not None]

    texts = list(sentences[::-1][:num_sentences])
    texts += [] if lexicon is None else word_lists(lexicon, sentences, num_lists, seed=train)
    made = (source.of_text(number, text, train) for number, text in enumerate(texts))
    return Material(of_clips(False), of_clips(True), [s for s in made if s is not None])
