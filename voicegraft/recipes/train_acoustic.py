"""Trains the acoustic LM on the recordings: their semantic tokens in, their codec codes out.

    voicegraft recipe train_acoustic pocket/acoustic work=runs/pocket

Generation feeds the model its own guesses, and semantic tokens that a language model guessed. So training corrupts both:
some histories are forgotten or replaced, and some semantic digits are off by one. The voice is told by what the voice encoder
makes of any recording of the same speaker, seldom the same; both are trained together.
Writes ``acoustic/`` and ``voice/``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voicegraft.acoustic.acoustic_lm import AcousticConfig, AcousticLM, FrameRateRatio
from voicegraft.acoustic.voice_encoder import VoiceEncoder, VoiceEncoderConfig
from voicegraft.audio.io import resampled
from voicegraft.core.artifacts import fingerprint
from voicegraft.core.runtime import pick_device
from voicegraft.data.prepared import Clip, PreparedSpeech, draw_clips
from voicegraft.data.tokens import Tokens
from voicegraft.recipes.command import recipe_main
from voicegraft.tokenizers.base import SemanticEncoder
from voicegraft.tokenizers.loading import open_codec, open_semantic
from voicegraft.train.config import LoopConfig
from voicegraft.train.engine import save_once
from voicegraft.train.loop import Losses, Metrics, Models, run


@dataclass(frozen=True)
class TrainAcousticConfig:
    work: str = "runs/mine"  # the work folder
    corpora: tuple[str, ...] = ()  # shards whose names begin so; none: all
    model: AcousticConfig = field(default_factory=AcousticConfig)
    voice_encoder: VoiceEncoderConfig = field(default_factory=VoiceEncoderConfig)
    reference_sec: float = 4.0  # of the recording that tells the voice; shorter ones are repeated
    speaker_weight: float = 0.1  # of the softmax over the speakers
    rounds: tuple[LoopConfig, ...] = (LoopConfig(),)  # one after the other, each with its own learning rates
    batch_size: int = 16  # crops
    crop_frames: int = 120  # frames per crop
    forget_history: float = 0.1  # share of frames whose past is zeroed
    wrong_history: float = 0.15  # share of frames whose past is another frame's
    wrong_digits: float = 0.04  # share of the semantic tokens' digits (FSQ), or of the tokens, that are off a little
    device: str = "auto"


def train_acoustic(config: TrainAcousticConfig) -> None:
    work, device = Path(config.work), pick_device(config.device)
    semantic, codec = open_semantic(work / "semantic"), open_codec(work / "codec")
    speech = PreparedSpeech(work, config.corpora or None)
    ratio = FrameRateRatio.of(semantic.spec, codec.spec)
    tokens_of = Tokens(work, "semantic", semantic.spec.fingerprint)
    codes = Tokens(work, "codec", codec.spec.fingerprint)
    train, val = speech.select("train"), speech.select("val")
    torch.manual_seed(0)
    model = AcousticLM(
        replace(
            config.model,
            semantic_vocab=semantic.spec.vocab_size,
            voices=tuple(speech.speakers),
            voice_width=config.voice_encoder.width,
            num_codebooks=codec.spec.num_codebooks,
            codebook_size=codec.spec.vocab_size,
            code_width=codec.codebooks.shape[-1],
            semantic=semantic.spec.fingerprint,
            codec=codec.spec.fingerprint,
            semantic_tokens=ratio.semantic_tokens,
            acoustic_frames=ratio.acoustic_frames,
        )
    )
    model.codebooks.copy_(codec.codebooks)
    with torch.no_grad():
        model.semantic.weight[:-1] = semantic.rows(model.config.width, 0.5)
    encoder = VoiceEncoder(config.voice_encoder)
    conditioned = VoiceConditioned(model, encoder).to(device)
    cast(nn.Module, semantic).to(device)
    corruption = Corruption(config, semantic)
    of_speaker: dict[str, list[Clip]] = {}
    for clip in train:
        of_speaker.setdefault(clip.utterance.speaker, []).append(clip)

    def reference(clip: Clip, draw: np.random.Generator) -> np.ndarray:
        """Samples ``[T]`` of some seconds of a recording of the clip's speaker, at the voice encoder's rate."""
        own = of_speaker.get(clip.utterance.speaker) or [clip]
        heard = own[int(draw.integers(len(own)))]
        samples, rate, wanted = speech.samples(heard), speech.rate(heard), config.voice_encoder.mel.sample_rate
        length = round(config.reference_sec * rate)
        start = int(draw.integers(max(1, len(samples) - length + 1)))
        piece = resampled(samples[start : start + length], rate, wanted)
        return np.resize(piece, round(config.reference_sec * wanted))

    def row(clip: Clip, start: int, length: int, draw: np.random.Generator) -> Row:
        """Some acoustic frames, the semantic tokens they belong to, and how the speaker sounds."""
        tokens = ratio.token_of(start + np.arange(min(length, len(codes(clip)) - start)))
        inside = tokens[tokens < len(tokens_of(clip))]
        voice = speech.speakers.index(clip.utterance.speaker)
        first, last = int(inside[0]), int(inside[-1])
        heard = reference(clip, draw)
        return Row(
            tokens_of(clip)[first : last + 1, 0],
            codes(clip)[start : start + len(inside)],
            inside - first,
            heard,
            voice,
        )

    def batch_at(number: int, seed: int) -> Batch:
        draw = np.random.default_rng([seed, number])
        rows = []
        for clip in draw_clips(train, draw, config.batch_size):
            room = len(codes(clip)) - config.crop_frames
            rows.append(row(clip, int(draw.integers(max(1, room + 1))), config.crop_frames, draw))
        return stack(rows, model.beyond, device)

    def losses(models: Models, batch: Batch, step: int) -> tuple[Losses, Metrics]:
        true_codes = batch.codes
        filled = true_codes.clamp(min=0)
        history = corruption.history(model.shifted_sums(filled))
        logits, speakers = models["acoustic"](batch, corruption.semantic(batch.semantic), filled, history)
        each = F.cross_entropy(logits.float().permute(0, 3, 1, 2), true_codes, ignore_index=-1, reduction="none")
        known = (true_codes >= 0).float()
        by_book = (each * known).sum((0, 2)) / known.sum((0, 2))
        speaker = F.cross_entropy(speakers, batch.voice)
        told = {"first_book": by_book[0], "last_book": by_book[-1], "speaker": speaker}
        loss = by_book.mean() + config.speaker_weight * speaker
        return {"acoustic": loss}, {name: part.detach() for name, part in told.items()}

    def validate(_: int) -> dict[str, float]:
        totals, draw = [], np.random.default_rng(0)
        for clip in val:
            one = stack([row(clip, 0, 10**6, draw)], model.beyond, device)
            logits, _ = conditioned(one, one.semantic, one.codes, None)
            each = F.cross_entropy(logits.float().permute(0, 3, 1, 2), one.codes, reduction="none")
            totals.append(each.mean((0, 2)).cpu().numpy())
        mean = np.mean(totals, axis=0)
        return {"loss": float(mean.mean()), "first_book": float(mean[0]), "last_book": float(mean[-1])}

    for number, loop in enumerate(config.rounds):
        folder = work / "acoustic-training" / f"round{number}"
        if not run(loop, folder, {"acoustic": conditioned}, partial(batch_at, seed=loop.seed), losses, validate):
            return
    encoder = conditioned.encoder.half().float()  # as shipped
    model.config = replace(model.config, voice_encoder=fingerprint(encoder.state_dict()))
    with torch.inference_mode():
        for number, voice in enumerate(speech.speakers):
            model.voices.weight[number] = mean_voice(encoder, speech, of_speaker.get(voice, []), device)
    about: dict[str, object] = {"recipe": "train_acoustic", "corpora": list(config.corpora)}
    save_once(model, model.save, work / "acoustic", about)
    save_once(encoder, encoder.save, work / "voice", about)


def mean_voice(encoder: VoiceEncoder, speech: PreparedSpeech, clips: list[Clip], device: torch.device) -> Tensor:
    """The vector of length one ``[width]`` amid those of the clips, of a hundred at most."""
    some = clips[:: -(-len(clips) // 100) or 1]
    wanted = encoder.config.mel.sample_rate
    heard = (resampled(speech.samples(clip), speech.rate(clip), wanted) for clip in some)
    vectors = [encoder.encode(torch.from_numpy(samples)[None].to(device))[0] for samples in heard]
    total = torch.stack(vectors).sum(0) if vectors else torch.zeros(encoder.config.width, device=device)
    return F.normalize(total, dim=0)


class VoiceConditioned(nn.Module):
    """The acoustic LM with the encoder that tells it the voice, and a softmax over the speakers, of training alone."""

    def __init__(self, model: AcousticLM, encoder: VoiceEncoder):
        super().__init__()
        self.model, self.encoder = model, encoder
        model.voices.requires_grad_(False)  # they follow from the encoder, in the end
        self.speakers = nn.Parameter(torch.randn(len(model.config.voices), encoder.config.width))

    def forward(self, batch: Batch, semantic: Tensor, codes: Tensor, history: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logits of the codes ``[B, K, T, N]`` and of the speakers ``[B, S]``."""
        voice = self.encoder.encode(batch.reference)
        logits = self.model(semantic, codes, voice, history, batch.tokens)
        return logits, 15 * voice @ F.normalize(self.speakers, dim=-1).mT


@dataclass(frozen=True)
class Row:
    """A crop of one recording."""

    semantic: np.ndarray  # [S]
    codes: np.ndarray  # [T, K]
    tokens: np.ndarray  # [T] the semantic token that a frame belongs to
    reference: np.ndarray  # [R] samples that tell the voice
    voice: int


@dataclass(frozen=True)
class Batch:
    """Padded crops."""

    semantic: Tensor  # [B, S]
    codes: Tensor  # [B, K, T], -1 where padded
    tokens: Tensor  # [B, T]
    reference: Tensor  # [B, R]
    voice: Tensor  # [B]


def stack(rows: list[Row], beyond: int, device: torch.device) -> Batch:
    def padded(arrays: list[np.ndarray], filler: int) -> Tensor:
        longest = max(map(len, arrays))
        made = np.full((len(arrays), longest, *arrays[0].shape[1:]), filler, dtype=np.int64)
        for row, array in zip(made, arrays, strict=True):
            row[: len(array)] = array
        return torch.from_numpy(made).to(device)

    return Batch(
        semantic=padded([r.semantic for r in rows], beyond),
        codes=padded([r.codes for r in rows], -1).mT,
        tokens=padded([r.tokens for r in rows], 0),
        reference=torch.from_numpy(np.stack([r.reference for r in rows])).to(device),
        voice=torch.tensor([r.voice for r in rows], device=device),
    )


class Corruption:
    """The errors that generation will make, in miniature."""

    def __init__(self, config: TrainAcousticConfig, semantic: SemanticEncoder):
        self.config, self.perturb = config, semantic.perturb
        self.vocab_size = semantic.spec.vocab_size

    def history(self, sums: Tensor) -> Tensor:
        """``[B, T, W]`` with some frames zeroed and some swapped for a random other frame's of the batch."""
        draw = torch.rand(*sums.shape[:2], 1, device=sums.device)
        flat = sums.flatten(0, 1)
        other = flat[torch.randint(len(flat), (len(flat),), device=sums.device)].view_as(sums)
        sums = torch.where(draw < self.config.wrong_history, other, sums)
        return torch.where(draw > 1 - self.config.forget_history, torch.zeros_like(sums), sums)

    def semantic(self, ids: Tensor) -> Tensor:
        """``[B, S]`` with some units replaced by units like them; ids beyond the vocabulary stay."""
        perturbed = self.perturb(ids.clamp(max=self.vocab_size - 1), self.config.wrong_digits)
        return torch.where(ids < self.vocab_size, perturbed, ids)


main = recipe_main(train_acoustic, __doc__)


if __name__ == "__main__":
    main()
