"""What the processes that ``test_distributed.py`` launches do: ``python launched.py FOLDER JOB...``, one training each.

A job is ``kind:name[:key=number...]``. Its run folder is ``FOLDER/name``; the weights it ends with go to
``FOLDER/name.safetensors``, an error's text to ``FOLDER/name.RANK.error``, and the number of parameters of which this process
holds a part to ``FOLDER/name.RANK.parts``. Keys are settings of the loop, or events: ``kill``, ``stop`` (a signal) and ``bad``
(a loss that is no number) at a step, in one process where ``rank`` names it; ``muon=1`` takes that optimizer, ``again=1``
trains a second round.
"""

import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tests import tiny
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.batches import collate
from voicegraft.data.chat import answered_questions, collate_answers, sentence_ids
from voicegraft.data.sequences import speech_sequence
from voicegraft.tokenizers.rvq import RVQ
from voicegraft.train.config import LoopConfig
from voicegraft.train.engine import save_once
from voicegraft.train.loop import Losses, Metrics, run

CPU = torch.device("cpu")
CONFIG = LoopConfig(
    steps=4,
    batches_per_step=4,
    lr=1e-2,
    warmup_steps=1,
    log_every=2,
    save_every=1,
    validate_every=2,
    precision="no",
    grad_clip=0.05,
)
RANK = int(os.environ.get("RANK", 0))
Job = tuple[dict[str, nn.Module], Callable[[int], Any], Callable[..., tuple[Losses, Metrics]]]


class Maker(nn.Module):
    """Dropout, a part that only some batches reach, one that none does, and a loss that is not ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(4, 8), nn.Linear(8, 4)
        self.seldom, self.never = nn.Linear(4, 4), nn.Linear(4, 4)
        self.drop = nn.Dropout(0.2)

    def made(self, x: Tensor) -> Tensor:
        more = self.seldom(x) if x[0, 0] > 0.5 else 0.0
        return self.leave(self.drop(torch.tanh(self.enter(x)))) + more


def noise(number: int) -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(number))


def adversaries() -> Job:
    models = {"maker": Maker(), "critic": nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))}

    def losses_of(models: Mapping[str, Any], batch: Tensor, step: int) -> tuple[Losses, Metrics]:
        made = models["maker"].made(batch + 0.1 * torch.randn_like(batch))
        losses = {"critic": (models["critic"](made.detach()) - models["critic"](batch)).mean()}
        if step >= 1:
            losses["maker"] = (made - batch).square().mean() - models["critic"](made).mean()
        return losses, {"first": batch[0, 0], "num_rows": torch.tensor(len(batch))}

    return models, noise, losses_of


def speech(mixed: bool = True) -> Job:
    """A LoRA and speech rows on a frozen backbone, its activations computed twice; every other batch may be text alone."""
    model = tiny.trained_expert(tiny.llama())
    model.backbone.gradient_checkpointing_enable({"use_reentrant": False})
    asked = answered_questions(model.tokenizer, [("Where is the owl?", "home"), ("Who sees my house?", "we")])

    def batch_at(number: int) -> dict[str, Tensor]:
        if mixed and number % 2:
            return collate_answers([asked[number // 2 % 2]], 1, CPU)
        text = tiny.SENTENCES[number // 2 % len(tiny.SENTENCES)]
        units = tiny.LEXICON.units(text)
        assert units is not None
        ids, words = sentence_ids(model.tokenizer, text), tiny.words_said(text)
        return collate([speech_sequence(model.vocabulary, ids, words, "ben", units)], CPU)

    def losses_of(models: Mapping[str, nn.Module], batch: Any, step: int) -> tuple[Losses, Metrics]:
        loss, _ = models["speech"](batch)
        return {"speech": loss}, {}

    return {"speech": model}, batch_at, losses_of


def backbone() -> Job:
    """All weights of a causal LM."""

    def batch_at(number: int) -> Tensor:
        return torch.randint(258, (2, 12), generator=torch.Generator().manual_seed(number))

    def losses_of(models: Mapping[str, nn.Module], batch: Tensor, step: int) -> tuple[Losses, Metrics]:
        return {"lm": models["lm"](input_ids=batch, labels=batch, use_cache=False).loss}, {}

    return {"lm": tiny.llama()}, batch_at, losses_of


class Quantised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.rvq = nn.Linear(4, 3), RVQ(2, 8, 3, decay=0.5)

    def forward(self, x: Tensor) -> Tensor:
        made, _, commitment = self.rvq(self.enter(x)[None])
        return commitment + made.square().mean()


def codec() -> Job:
    return {"codec": Quantised()}, noise, lambda models, batch, step: ({"codec": models["codec"](batch)}, {})


JOBS: dict[str, Callable[[], Job]] = {
    "adversaries": adversaries,
    "speech": speech,
    "speech-alone": partial(speech, mixed=False),
    "backbone": backbone,
    "codec": codec,
}


def save(models: dict[str, nn.Module], path: Path) -> None:
    tensors = {
        f"{model}.{name}": tensor.detach().clone()
        for model, module in models.items()
        for name, tensor in (*module.named_parameters(), *module.named_buffers())
        if tensor.requires_grad or model == "codec"
    }
    save_file(tensors, path)


def train(folder: Path, job: str) -> None:
    kind, name, *options = job.split(":")
    chosen = {key: int(value) for key, value in (option.split("=") for option in options)}
    kill, stop, bad, rank, muon, again = (
        chosen.pop(key, None) for key in ("kill", "stop", "bad", "rank", "muon", "again")
    )
    config = dataclasses.replace(CONFIG, optimizer="muon" if muon else "adamw", **chosen)
    signalled: list[int] = []
    torch.manual_seed(0)
    models, batch_at, losses_of = JOBS[kind]()

    def eventful(models: Mapping[str, nn.Module], batch: Any, step: int) -> tuple[Losses, Metrics]:
        here = rank is None or rank == RANK
        if here and step == kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if here and step == stop and not signalled:
            signalled.append(step)  # once: a second signal acts at once
            os.kill(os.getpid(), signal.SIGTERM)
        losses, metrics = losses_of(models, batch, step)
        return {n: loss * (float("nan") if here and step == bad else 1) for n, loss in losses.items()}, metrics

    @torch.inference_mode()
    def validate(step: int) -> dict[str, float]:
        for module in models.values():
            module.eval()
        loss = losses_of(models, batch_at(0), 0)[0]
        for module in models.values():
            module.train()
        return {"loss": float(next(iter(loss.values())))}

    try:
        rounds = [folder / name, *([folder / f"{name}-again"] if again else ())]
        if all(run(config, place, models, batch_at, eventful, validate) for place in rounds):
            parameters = [p for module in models.values() for p in module.parameters()]
            num_parts = sum(isinstance(p, DTensor) or not p.numel() for p in parameters)  # empty: ZeRO-3 holds it
            (folder / f"{name}.{RANK}.parts").write_text(str(num_parts))
            save_once(nn.ModuleDict(models), save, models, folder / f"{name}.safetensors")
    except VoicegraftError as error:
        (folder / f"{name}.{RANK}.error").write_text(str(error))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for one in sys.argv[2:]:
        train(Path(sys.argv[1]), one)
