"""Trains the semantic tokenizer, and aligns the recordings with their text on the way.

    voicegraft recipe train_semantic pocket/semantic work=runs/pocket

Synthetic speech comes with phone times, recordings do not. So training goes in rounds: the first learns phones from
synthetic speech alone, and after every round the recordings are aligned anew with what has been learnt. Where recordings
were aligned before (``voicegraft recipe align``, by another pack), ``aligned`` names that folder and one round will do.
Writes ``semantic/`` (the tokenizer) and, but after a last round of such, ``alignments/`` (manifests with timed units).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voicegraft.core.artifacts import fingerprint
from voicegraft.core.runtime import pick_device
from voicegraft.data.lexicon import Lexicon
from voicegraft.data.prepared import DONE, Clip, PreparedSpeech, draw_clips, frame_classes
from voicegraft.recipes.align import write_alignments
from voicegraft.recipes.command import recipe_main
from voicegraft.tokenizers.semantic import SemanticConfig, SemanticTokenizer, SemanticTrainer, warp_frequency
from voicegraft.train.config import LoopConfig
from voicegraft.train.engine import main_first, save_once
from voicegraft.train.loop import Losses, Metrics, Models, run


@dataclass(frozen=True)
class TrainSemanticConfig:
    work: str = "runs/mine"  # the work folder
    corpora: tuple[str, ...] = ()  # shards whose names begin so; none: all
    aligned: str = ""  # folder of aligned manifests, of which all rounds learn; empty: alignments are made on the way
    model: SemanticConfig = field(default_factory=SemanticConfig)
    rounds: tuple[LoopConfig, ...] = (LoopConfig(steps=400), LoopConfig(steps=800), LoopConfig(steps=2400))
    batch_size: int = 32  # crops
    crop_frames: int = 120  # token frames per crop
    human_share: float = 0.4  # of the crops
    warp: float = 0.1  # frequency warp, up to this much either way
    noise_steps: int = 150  # of the first round, over which noise instead of rounding falls from all rows to a quarter
    device: str = "auto"


class Batches:
    """Random crops; crop, warp and mixture follow from the step number alone."""

    def __init__(self, config: TrainSemanticConfig, speech: PreparedSpeech, device: torch.device, salt: int):
        self.config, self.speech, self.device, self.salt = config, speech, device, salt
        self.human = speech.select("train", synthetic=False)
        self.synthetic = speech.select("train", synthetic=True)

    def __call__(self, number: int) -> dict[str, Tensor]:
        c = self.config
        draw = np.random.default_rng([self.salt, number])
        num_human = round(c.batch_size * c.human_share) if self.synthetic else c.batch_size
        chosen = draw_clips(self.human, draw, num_human)
        chosen += draw_clips(self.synthetic, draw, c.batch_size - num_human) if self.synthetic else []
        rows = [self.crop(clip, draw.random()) for clip in chosen]
        batch = {key: torch.from_numpy(np.stack([row[key] for row in rows])) for key in rows[0]}
        warp = np.where(draw.random(c.batch_size) < 0.6, draw.uniform(-c.warp, c.warp, c.batch_size), 0.0)
        batch["warp"] = torch.from_numpy(1 + warp).float()
        return {key: value.to(self.device) for key, value in batch.items()}

    def crop(self, clip: Clip, where: float) -> dict[str, np.ndarray]:
        c = self.config
        stride = c.model.stride
        pitch = self.speech.array(clip, "pitch")
        num_frames = len(pitch)
        start = int(where * max(0, num_frames - c.crop_frames + 1))
        stop = min(num_frames, start + c.crop_frames)
        missing = c.crop_frames - (stop - start)
        rate = c.model.mel.sample_rate / (c.model.mel.hop * stride)
        phones = frame_classes(clip.utterance, num_frames, rate)[start:stop]
        mel = self.speech.array(clip, "mel")[start * stride : stop * stride].astype(np.float32).T
        silence = np.log(np.float32(1e-5))
        return {
            "mel": np.pad(mel, ((0, 0), (0, missing * stride)), constant_values=silence),
            "phones": np.pad(phones, (0, missing), constant_values=-100),
            "pitch": np.pad(pitch[start:stop].astype(np.float32), (0, missing), constant_values=np.nan),
            "speaker": np.asarray(self.speech.speakers.index(clip.utterance.speaker)),
        }


def train_semantic(config: TrainSemanticConfig) -> None:
    work = Path(config.work)
    device = pick_device(config.device)
    given = Path(config.aligned) if config.aligned else None
    speakers = PreparedSpeech(work, config.corpora or None).speakers
    torch.manual_seed(0)
    model = SemanticTrainer(SemanticTokenizer(replace(config.model, num_speakers=len(speakers)))).to(device)
    for number, loop in enumerate(config.rounds):
        # The first round has no alignments of recordings and uses them for the mel and the pitch only.
        previous = given or (work / "alignments" / f"round{number - 1}" if number else None)
        speech = PreparedSpeech(work, config.corpora or None, previous)
        batches = Batches(config, speech, device, salt=number)

        def losses(
            models: Models, batch: dict[str, Tensor], step: int, first: bool = number == 0
        ) -> tuple[Losses, Metrics]:
            noise = max(0.25, 1 - 0.75 * step / config.noise_steps) if first else 0.25
            mel = warp_frequency(batch["mel"], batch["warp"])
            inputs = (mel, batch["mel"], batch["phones"], batch["pitch"], batch["speaker"])
            loss, parts = models["semantic"](*inputs, noise)
            return {"semantic": loss}, parts

        def validate(_: int, at: Batches = batches) -> dict[str, float]:
            return {
                **_scores(model, at, at.speech.select("val", synthetic=False), "human"),
                **_scores(model, at, at.speech.select("val", synthetic=True)[:64], "synthetic"),
            }

        if not run(loop, work / "semantic-training" / f"round{number}", {"semantic": model}, batches, losses, validate):
            return
        aligned = work / "alignments" / f"round{number}"
        with main_first():
            if given is None and not (aligned / DONE).is_file():
                align_recordings(model, speech, Lexicon.load(work / "lexicon.json"), aligned, device)
    tokenizer = model.tokenizer.half().float()  # what is shipped, and what the tokens of all later stages come from
    save_once(tokenizer, tokenizer.save, work / "semantic", {"recipe": "train_semantic", "speakers": speakers})
    print(f"semantic tokenizer {fingerprint(tokenizer.state_dict())}: {work / 'semantic'}")


def _scores(model: SemanticTrainer, batches: Batches, clips: list[Clip], name: str) -> dict[str, float]:
    """Phone accuracy per frame (unaligned clips do not count) and mel error in nepers."""
    totals = np.zeros(4)
    for clip in clips:
        row: dict[str, Any] = {
            k: torch.from_numpy(v)[None].to(batches.device) for k, v in batches.crop(clip, 0.0).items()
        }
        quantised, _ = model.tokenizer.fsq(model.tokenizer.latents(row["mel"]))
        logits, _, mel = model.heads(quantised, row["speaker"])
        known = row["phones"] >= 0
        hits = ((logits.argmax(1) == row["phones"]) & known).sum()
        totals += [int(hits), int(known.sum()), float((mel - row["mel"]).abs().mean()), 1]
    return {f"{name}_phone_accuracy": totals[0] / max(1, totals[1]), f"{name}_mel": totals[2] / max(1, totals[3])}


@torch.inference_mode()
def align_recordings(
    model: SemanticTrainer, speech: PreparedSpeech, lexicon: Lexicon, out: Path, device: torch.device
) -> None:
    """Writes manifests of the recordings with timed units; an utterance that cannot be aligned keeps none."""
    model.eval()

    def log_probs(clip: Clip) -> np.ndarray:
        mel = torch.from_numpy(speech.array(clip, "mel").astype(np.float32).T)[None].to(device)
        quantised, _ = model.tokenizer.fsq(model.tokenizer.latents(mel))
        phones = model.phone_head(model.trunk(model.read(quantised.transpose(1, 2))))
        return np.asarray(phones.float().log_softmax(1)[0].T.cpu())

    human = [c for c in speech.clips if not c.utterance.synthetic]
    write_alignments(human, lexicon.units, log_probs, model.tokenizer.spec.frame_rate, out)
    model.train()


main = recipe_main(train_semantic, __doc__)


if __name__ == "__main__":
    main()
