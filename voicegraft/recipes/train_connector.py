"""Warm start of a connector without the LLM: it learns to read what an encoder heard, in the LLM's own tokens.

    voicegraft recipe train_connector small/connector work=runs/mine

Reads what ``voicegraft recipe encode`` left in ``work/features``. First each token is to stand at its place in time (spikes:
cross-entropy), then only in its order (CTC, Graves et al. 2006), with the same head over the LLM's token embeddings.
Writes ``work/connector``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.runtime import pick_device
from voicegraft.core.text_input import file_lines
from voicegraft.data.batches import LengthBuckets
from voicegraft.data.chat import encode
from voicegraft.data.features import HeardSpeech
from voicegraft.data.prepared import Clip
from voicegraft.data.respelling import Respelling, respelling
from voicegraft.data.splits import text_key
from voicegraft.evaluation.metrics.rates import word_edits
from voicegraft.evaluation.speech.reserved import ReservedTexts
from voicegraft.fusion.backbone import backbone_fingerprint, load_backbone, tokenizer_fingerprint
from voicegraft.fusion.connectors.aligned import Aligned, AlignedConfig
from voicegraft.fusion.connectors.base import embedding_rows
from voicegraft.fusion.connectors.ngrams import BLANK, Fusion, NGrams
from voicegraft.recipes.command import commit, recipe_main
from voicegraft.train.config import LoopConfig
from voicegraft.train.engine import save_once
from voicegraft.train.loop import Losses, Metrics, Models, run


@dataclass(frozen=True)
class SpecAugment:
    """What is hidden of the features (Park et al. 2019, arXiv 1904.08779)."""

    time_masks: int = 2  # per second of speech, up to ten
    time_frames: int = 5  # longest
    width_masks: int = 2
    width_share: float = 0.1  # widest, of the features


@dataclass(frozen=True)
class TrainConnectorConfig:
    work: str = "runs/mine"  # the work folder
    backbone: str = "part:smollm2"  # whose tokens are read
    features: str = ""  # which of work/features; empty: the only ones
    held_speakers: tuple[str, ...] = ()  # never trained on, though their clips lie in the work folder
    width: int = 320
    layers: int = 2
    heads: int = 5
    strides: tuple[int, ...] = (2, 2)
    dropout: float = 0.1
    least: int = 3  # times a token must be heard in training; rarer ones are spelt; 1: none is
    vary: float = 0.0  # share of the tokens that are spelt at random, anew each time, so that letters are learnt too
    order: int = 4  # of the n-grams of pieces that it reads with, counted in the transcripts and in ``texts``; 0: none
    texts: tuple[Path, ...] = ()  # text files with a sentence a line, such as people say
    fusion: Fusion = field(default_factory=Fusion)
    spike_share: float = 0.3  # of the steps, before CTC
    masks: SpecAugment = field(default_factory=SpecAugment)
    batch_frames: int = 6400  # of the encoder
    validation_clips: int = 40  # of each shard's name and side
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(validate_every=200))
    device: str = "auto"


@dataclass(frozen=True, eq=False)
class Read:
    """What is to be read in a clip."""

    clip: Clip
    pieces: Tensor  # [L] int64, numbers of pieces, from 1
    centers: Tensor  # [L], frames


def train_connector(config: TrainConnectorConfig) -> None:
    work, device = Path(config.work), pick_device(config.device)
    speech = HeardSpeech(work, config.features)
    if speech.header.encoder.reads != "encoder":
        raise VoicegraftError(
            f"{work} has features of a recogniser's decoder; expected an encoder's, which are in time"
        )
    backbone, tokenizer = load_backbone(config.backbone)
    if speech.header.tokenizer != tokenizer_fingerprint(tokenizer):
        raise VoicegraftError(
            f"{work} has times of another backbone's tokens: run voicegraft recipe encode for this one"
        )
    sides: dict[str, list[Clip]] = {"train": [], "held": []}
    for clip in speech.clips:
        held = clip.utterance.split != "train" or clip.utterance.speaker in config.held_speakers
        sides["held" if held else "train"].append(clip)
    said = {clip.utterance.text: _tokens(tokenizer, clip.utterance.text) for clip in sides["train"]}
    spelling = respelling(tokenizer, [said[clip.utterance.text] for clip in sides["train"]], config.least)
    ngrams = _ngrams(config, tokenizer, spelling, sides)
    torch.manual_seed(config.loop.seed)
    rows, owner = embedding_rows(backbone), backbone_fingerprint(backbone)
    model = Aligned(
        AlignedConfig(
            speech.header.width, rows.shape[1], speech.header.fingerprint, owner, len(spelling.pieces), config.width,
            config.layers, config.heads, strides=config.strides, dropout=config.dropout, fusion=config.fusion,
            ngrams=ngrams.sizes if ngrams else (),
        )
    )  # fmt: skip
    if ngrams is not None and model.ngrams is not None:
        model.ngrams.load_state_dict(ngrams.state_dict())
    model.pieces.copy_(torch.tensor(spelling.pieces))
    model.to(device).attach(backbone, tokenizer, owner)
    targets = [_target(clip, speech, tokenizer, spelling) for clip in tqdm(sides["train"], desc="texts", leave=False)]
    targets = [t for t in targets if 0 < len(t.pieces) <= _room(t, speech, model)]
    lengths = [len(speech.frames(target.clip)) for target in targets]
    buckets = LengthBuckets(lengths, [1.0] * len(targets), config.batch_frames)

    def batch(number: int) -> tuple[Tensor, Tensor, list[Read]]:
        chosen = [targets[i] for i in buckets.draw(number, config.loop.seed)]
        if config.vary:
            random = np.random.default_rng([config.loop.seed, number, 1])
            varied = [_target(t.clip, speech, tokenizer, spelling, config.vary, random) for t in chosen]
            chosen = [v if len(v.pieces) <= _room(v, speech, model) else t for t, v in zip(chosen, varied, strict=True)]
        frames, lengths = _frames([speech.frames(target.clip) for target in chosen])
        return _masked(frames, lengths, config.masks).to(device), lengths.to(device), chosen

    def losses(models: Models, batch: tuple[Tensor, Tensor, list[Read]], step: int) -> tuple[Losses, Metrics]:
        frames, lengths, chosen = batch
        directions, blank, slots = model.directions(frames, lengths)
        scores = model.scores(directions, blank)
        num_tokens = sum(len(target.pieces) for target in chosen)
        if step < config.spike_share * config.loop.steps:
            wanted = _spikes(chosen, slots.tolist(), scores.shape[1], model.frames_per_slot).to(device)
            loss = F.nll_loss(scores.flatten(0, 1), wanted.flatten(), ignore_index=-1, reduction="sum")
        else:
            loss = F.ctc_loss(
                scores.transpose(0, 1), torch.cat([target.pieces for target in chosen]).to(device), slots,
                torch.tensor([len(target.pieces) for target in chosen]), BLANK, "sum", zero_infinity=True,
            )  # fmt: skip
        return {"connector": loss / num_tokens}, {"num_clips": torch.tensor(float(len(chosen)))}

    def validate(_: int) -> dict[str, float]:
        return reading_rates(model, tokenizer, speech, sides, config.validation_clips, config.batch_frames)

    if run(config.loop, work / "connector-training", {"connector": model}, batch, losses, validate):
        about = {"recipe": "train_connector", "steps": config.loop.steps, **commit(), **validate(0)}
        save_once(model, model.save, work / "connector", about)


def reading_rates(
    model: Aligned,
    tokenizer: PreTrainedTokenizerBase,
    speech: HeardSpeech,
    sides: Mapping[str, Sequence[Clip]],
    limit: int,
    budget: int,
) -> dict[str, float]:
    """Word error rates of what the connector reads: ``wer_SIDE_SHARD``, evenly chosen clips of each."""
    device = model.pieces.device
    groups: dict[str, list[Clip]] = defaultdict(list)
    for side, clips in sides.items():
        for clip in clips:
            groups[f"wer_{side}_{clip.folder.name.rpartition('-')[0] or clip.folder.name}"].append(clip)
    rates = {}
    for name, clips in sorted(groups.items()):
        chosen = clips[:: -(-len(clips) // limit)]
        chosen.sort(key=lambda clip: len(speech.frames(clip)))
        errors = words = 0
        while chosen:
            size = max(1, budget // len(speech.frames(chosen[-1])))
            some, chosen = chosen[-size:], chosen[:-size]
            frames, lengths = _frames([speech.frames(clip) for clip in some])
            for clip, tokens in zip(some, model.read(frames.to(device), lengths.to(device)), strict=True):
                counts = word_edits(clip.utterance.text, str(tokenizer.decode(tokens)))
                errors, words = errors + counts.errors, words + counts.length
        rates[name] = errors / max(words, 1)
    return rates


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """With white space before the first word, as before any other: fewer kinds of tokens to learn."""
    return encode(tokenizer, f" {text.strip()}")


def _ngrams(
    config: TrainConnectorConfig,
    tokenizer: PreTrainedTokenizerBase,
    spelling: Respelling,
    sides: Mapping[str, Sequence[Clip]],
) -> NGrams | None:
    """Of the texts that nothing holds back and no test is made of, each once."""
    if not config.order:
        return None
    reserved = ReservedTexts([clip.utterance.text for clip in sides["held"]])
    lines = [clip.utterance.text for clip in sides["train"]]
    lines += [line for path in config.texts for line in file_lines(path)]
    texts = {key: line for line in lines if (key := text_key(line)) and line not in reserved}
    number = {piece: i + 1 for i, piece in enumerate(spelling.pieces)}
    said = (spelling(_tokens(tokenizer, line)) for line in tqdm(texts.values(), desc="n-grams", leave=False))
    known = ([number[piece] for piece in text] for text in said if number.keys() >= set(text))
    return NGrams.counted(known, len(spelling.pieces), config.order)


def _room(target: Read, speech: HeardSpeech, model: Aligned) -> int:
    """Slots of a clip."""
    return len(speech.frames(target.clip)) // model.frames_per_slot


def _target(
    clip: Clip,
    speech: HeardSpeech,
    tokenizer: PreTrainedTokenizerBase,
    spelling: Respelling,
    vary: float = 0.0,
    random: np.random.Generator | None = None,
) -> Read:
    tokens = _tokens(tokenizer, clip.utterance.text)
    pieces = spelling(tokens) if random is None else spelling.varied(tokens, vary, random)
    timed = np.asarray(speech.alignment(clip))
    known = np.cumsum([0, *map(len, tokenizer.convert_ids_to_tokens(timed[:, 0].tolist()))])
    ends = np.cumsum([0, *map(len, tokenizer.convert_ids_to_tokens(pieces))])
    # Both spell the same text, but for the white space before it: places count from the end.
    centers = (ends[1:] + ends[:-1]) / 2 - ends[-1] + known[-1]
    frames = np.interp(centers, (known[1:] + known[:-1]) / 2, timed[:, 1:].mean(1))
    number = {piece: i + 1 for i, piece in enumerate(spelling.pieces)}
    return Read(clip, torch.tensor([number[piece] for piece in pieces]), torch.from_numpy(frames))


def _frames(arrays: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    frames = [torch.from_numpy(np.asarray(array, dtype=np.float32)) for array in arrays]
    return pad_sequence(frames, batch_first=True), torch.tensor([len(array) for array in arrays])


def _masked(frames: Tensor, lengths: Tensor, masks: SpecAugment) -> Tensor:
    """With stretches of time and bands of features set to zero, drawn from torch's generator."""
    _, num_frames, width = frames.shape
    times, bands = torch.arange(num_frames), torch.arange(width)
    for row, length in zip(frames, lengths.tolist(), strict=True):
        for _ in range(min(10, masks.time_masks * length // 50)):
            begin, size = torch.rand(2).tolist()
            begin, end = begin * length, begin * length + size * masks.time_frames
            row[(times >= begin) & (times < end)] = 0.0
        for _ in range(masks.width_masks):
            begin, size = torch.rand(2).tolist()
            begin, end = begin * width, begin * width + size * masks.width_share * width
            row[:, (bands >= begin) & (bands < end)] = 0.0
    return frames


def _spikes(targets: Sequence[Read], slots: Sequence[int], size: int, stride: int) -> Tensor:
    """Where each piece is to stand ``[B, size]``: in its slot, or the next free one; blank elsewhere, -1 in the padding."""
    rows = torch.full((len(targets), size), -1)
    for row, target, num_slots in zip(rows, targets, slots, strict=True):
        row[:num_slots] = BLANK
        count = torch.arange(len(target.pieces))
        places = (target.centers / stride).long() - count
        places = (places.cummax(0).values + count).minimum(num_slots - len(count) + count)
        row[places] = target.pieces
    return rows


main = recipe_main(train_connector, __doc__)


if __name__ == "__main__":
    main()
