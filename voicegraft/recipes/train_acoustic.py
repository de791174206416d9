"""Trains the acoustic LM on the recordings: their semantic tokens in, their codec codes out.

    python -m voicegraft.recipes.train_acoustic configs/pocket/acoustic.yaml work=runs/pocket

Generation feeds the model its own guesses, and semantic tokens that a language model guessed. So training damages both:
some histories are forgotten or replaced, and some semantic digits are off by one. Writes ``acoustic/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voicegraft.acoustic.acoustic_lm import AcousticConfig, AcousticLM
from voicegraft.core.runtime import pick_device, single_thread
from voicegraft.data.speech import Clip, PreparedSpeech
from voicegraft.recipes.command import recipe_config
from voicegraft.recipes.tokenize import Tokens
from voicegraft.tokenizers.codec import Codec
from voicegraft.tokenizers.fsq import FSQ, structured_rows
from voicegraft.tokenizers.semantic import SemanticTokenizer
from voicegraft.train.loop import LoopConfig, run


@dataclass(frozen=True)
class TrainAcousticConfig:
    work: str = "runs/pocket"
    corpora: tuple[str, ...] = ("kathleen", "ljspeech-part")
    model: AcousticConfig = field(default_factory=AcousticConfig)
    rounds: tuple[LoopConfig, ...] = (LoopConfig(),)  # one after the other, each with its own learning rates
    batch_size: int = 16  # crops
    crop_frames: int = 120  # frames per crop
    forget_history: float = 0.1  # share of frames whose past is zeroed
    wrong_history: float = 0.15  # share of frames whose past is another frame's
    wrong_digits: float = 0.04  # share of semantic digits that are off by one
    device: str = "auto"


def main(argv: list[str] | None = None) -> None:
    single_thread()
    train_acoustic(recipe_config(TrainAcousticConfig, __doc__, argv))


def train_acoustic(config: TrainAcousticConfig) -> None:
    work, device = Path(config.work), pick_device(config.device)
    semantic, codec = SemanticTokenizer.load(work / "semantic"), Codec.load(work / "codec")
    speech = PreparedSpeech(work, config.corpora)
    units = Tokens(work, "semantic", semantic.spec.fingerprint)
    codes = Tokens(work, "codec", codec.spec.fingerprint)
    train, val = speech.select("train"), speech.select("val")
    weights = np.asarray([c.utterance.duration_sec for c in train])
    weights /= weights.sum()
    torch.manual_seed(0)
    model = AcousticLM(
        replace(
            config.model,
            semantic_vocab=semantic.spec.vocab_size,
            voices=tuple(speech.speakers),
            num_codebooks=codec.spec.num_codebooks,
            codebook_size=codec.spec.vocab_size,
            code_width=codec.config.latent_width,
            semantic=semantic.spec.fingerprint,
            codec=codec.spec.fingerprint,
        )
    )
    model.codebooks.copy_(codec.rvq.codebooks)
    with torch.no_grad():
        model.semantic.weight[:-1] = structured_rows(semantic.config.levels, model.config.width, 0.5)
    model.to(device)
    damage = Damage(config, semantic.config.levels).to(device)

    def row(clip: Clip, start: int, length: int) -> tuple[np.ndarray, np.ndarray, int]:
        u, c = units(clip)[start : start + length, 0], codes(clip)[start : start + length]
        return u, c[: len(u)], speech.speakers.index(clip.utterance.speaker)

    def batch_at(number: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        draw = np.random.default_rng([seed, number])
        rows = []
        for i in draw.choice(len(train), size=config.batch_size, p=weights):
            room = len(codes(train[i])) - config.crop_frames
            rows.append(row(train[i], int(draw.integers(max(1, room + 1))), config.crop_frames))
        return stack(rows, model.beyond, device)

    def losses(
        players: Mapping[str, nn.Module], batch: tuple[Tensor, Tensor, Tensor], step: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        semantic_ids, true_codes, voice = batch
        filled = true_codes.clamp(min=0)
        history = damage.history(model.shifted_sums(filled))
        logits = players["acoustic"](damage.semantic(semantic_ids), filled, voice, history)
        each = F.cross_entropy(logits.float().permute(0, 3, 1, 2), true_codes, ignore_index=-1, reduction="none")
        known = (true_codes >= 0).float()
        by_book = (each * known).sum((0, 2)) / known.sum((0, 2))
        return {"acoustic": by_book.mean()}, {"first_book": by_book[0].detach(), "last_book": by_book[-1].detach()}

    @torch.inference_mode()
    def validate(_: int) -> dict[str, float]:
        model.eval()
        totals = []
        for clip in val:
            semantic_ids, true_codes, voice = stack([row(clip, 0, 10**6)], model.beyond, device)
            logits = model(semantic_ids, true_codes, voice)
            each = F.cross_entropy(logits.float().permute(0, 3, 1, 2), true_codes, reduction="none")
            totals.append(each.mean((0, 2)).cpu().numpy())
        model.train()
        mean = np.mean(totals, axis=0)
        return {"loss": float(mean.mean()), "first_book": float(mean[0]), "last_book": float(mean[-1])}

    for number, loop in enumerate(config.rounds):
        folder = work / "acoustic-training" / f"round{number}"
        if not run(loop, folder, {"acoustic": model}, partial(batch_at, seed=loop.seed), losses, validate):
            return
    model.save(work / "acoustic", {"recipe": "train_acoustic", "corpora": list(config.corpora)})


def stack(
    rows: list[tuple[np.ndarray, np.ndarray, int]], beyond: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (semantic ``[T]``, codes ``[T, K]``, voice) -> padded ``[B, T]``, ``[B, K, T]`` (-1 where padded), ``[B]``."""
    longest = max(len(u) for u, _, _ in rows)
    semantic = [np.pad(u.astype(np.int64), (0, longest - len(u)), constant_values=beyond) for u, _, _ in rows]
    codes = [np.pad(c.astype(np.int64), ((0, longest - len(c)), (0, 0)), constant_values=-1) for _, c, _ in rows]
    voices = torch.tensor([v for _, _, v in rows], device=device)
    return torch.from_numpy(np.stack(semantic)).to(device), torch.from_numpy(np.stack(codes)).mT.to(device), voices


class Damage(nn.Module):
    """The errors that generation will make, in miniature."""

    def __init__(self, config: TrainAcousticConfig, levels: tuple[int, ...]):
        super().__init__()
        self.config = config
        self.fsq = FSQ(levels)

    def history(self, sums: Tensor) -> Tensor:
        """``[B, T, W]`` with some frames zeroed and some swapped for a random other frame's of the batch."""
        draw = torch.rand(*sums.shape[:2], 1, device=sums.device)
        flat = sums.flatten(0, 1)
        other = flat[torch.randint(len(flat), (len(flat),), device=sums.device)].view_as(sums)
        sums = torch.where(draw < self.config.wrong_history, other, sums)
        return torch.where(draw > 1 - self.config.forget_history, torch.zeros_like(sums), sums)

    def semantic(self, ids: Tensor) -> Tensor:
        """``[B, T]`` with some digits off by one; ids beyond the vocabulary stay."""
        inside = ids < self.fsq.vocab_size
        nudged = self.fsq.nudge(ids.clamp(max=self.fsq.vocab_size - 1), self.config.wrong_digits)
        return torch.where(inside, nudged, ids)


if __name__ == "__main__":
    main()
