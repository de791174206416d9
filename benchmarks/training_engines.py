"""What ``bench_training`` compares: one training of a speech expert, done by Hugging Face and by us, and the steps between.

All engines share the frozen layers' tensors and begin with the same LoRA and the same speech embedding. A turn is a few
optimiser steps, run by `transformers.Trainer` or by ``train.loop``, as a user runs them.
"""

from __future__ import annotations

import copy
import ctypes
import io
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from accelerate.state import AcceleratorState
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, models
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from voicegraft.core.library_logging import quietly
from voicegraft.data.batches import LengthBuckets, collate
from voicegraft.data.sequences import IGNORE, SpeechSequence
from voicegraft.fusion.experts import SPEECH, LoraSettings
from voicegraft.fusion.lora_training import SpeechExpertTraining
from voicegraft.fusion.speech_embedding import Layout
from voicegraft.tokenizers.vocabulary import SpeechVocabulary
from voicegraft.train.config import LoopConfig
from voicegraft.train.loop import run

Batch = Mapping[str, Tensor]
Drawing = Literal["random", "grouped", "buckets"]
_STEPS = 1000  # of the schedule that a turn is the beginning of


# Models: each takes a batch and returns its loss


def our_training(
    backbone: PreTrainedModel, vocabulary: SpeechVocabulary, lora: LoraSettings, layout: Layout
) -> SpeechExpertTraining:
    """Ours on a copy around the backbone's own tensors."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    training = SpeechExpertTraining(_shared(backbone), tokenizer, vocabulary, "", lora, layout=layout)
    return training.to(backbone.device)


class JointSoftmax(nn.Module):
    """Our rows beside the backbone's tables, but the softmax over text and speech as PEFT's way has it: its loss."""

    def __init__(self, training: SpeechExpertTraining, at_targets: bool):
        """
        Args:
            at_targets: logits where there is something to predict, not at every position.
        """
        super().__init__()
        self.training_, self.at_targets = training, at_targets

    def forward(self, batch: Batch) -> Tensor:
        ours = self.training_
        text = ours.backbone.get_input_embeddings()(batch["text"].clamp(min=0))
        hidden = ours.backbone.base_model(
            inputs_embeds=ours.speech_embedding.inputs(batch, text), use_cache=False
        ).last_hidden_state
        target = batch["target"]
        if self.at_targets:
            wanted = target != IGNORE
            hidden, target = hidden[wanted], target[wanted]
        softmax = cast(nn.Linear, ours.backbone.get_output_embeddings())
        logits = torch.cat([softmax(hidden), ours.speech_embedding.logits(hidden)], -1).float()
        moved = torch.where(target == IGNORE, IGNORE, target + softmax.out_features)
        return F.cross_entropy(logits.flatten(0, -2), moved.flatten())


def peft_training(backbone: PreTrainedModel, ours: SpeechExpertTraining, lora: LoraSettings, whole: bool) -> PeftModel:
    """PEFT's own way (see ``grown``) on a copy, from the weights that ours has now."""
    model = grown(_shared(backbone), ours.vocabulary.size, lora, whole)
    own = dict(ours.peft_model.named_parameters())
    rows = {"embed_tokens": ours.speech_embedding.token.weight, "lm_head": ours.speech_embedding.head.weight}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            if ".lora_" in name:
                parameter.copy_(own[name.replace(".default.", f".{SPEECH}.")])
            else:
                table = next(row for key, row in rows.items() if f".{key}." in name)
                parameter[-len(table) :].copy_(table)
    return model


def grown(backbone: PreTrainedModel, num_new: int, lora: LoraSettings, whole: bool) -> PeftModel:
    """A LoRA of PEFT on a backbone whose tables were grown by ``num_new`` rows at their end, which are trained too.

    Args:
        whole: by ``modules_to_save``, all rows of the tables; else by ``trainable_token_indices``, the new ones.
    """
    num_text = backbone.config.vocab_size
    with quietly():
        backbone.resize_token_embeddings(num_text + num_new, mean_resizing=False)
    new = list(range(num_text, num_text + num_new))
    tied = backbone.config.tie_word_embeddings
    tables = ["embed_tokens"] if tied else ["embed_tokens", "lm_head"]
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        modules_to_save=tables if whole else None,
        trainable_token_indices=None if whole else dict.fromkeys(tables, new),
        ensure_weight_tying=whole and tied,
    )
    return get_peft_model(backbone, config)


def _shared(backbone: PreTrainedModel) -> PreTrainedModel:
    """Modules of its own around the same weights."""
    return copy.deepcopy(backbone, {id(p): p for p in backbone.parameters()})


# Batches


def grown_row(sequence: SpeechSequence, num_text: int) -> dict[str, Tensor]:
    """A sequence as an LLM of the grown vocabulary reads it: ids, and what follows each."""
    speech, target = sequence.token >= 0, sequence.target
    ids = np.where(speech, sequence.token + num_text, sequence.text)
    labels = np.where(target == IGNORE, IGNORE, target + num_text)
    return {"input_ids": torch.from_numpy(ids).long(), "labels": torch.from_numpy(labels).long()}


def grown_batch(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Pads to the longest, as transformers' collators do; the labels are those of the position itself (``shift_labels``)."""
    labels = pad_sequence([row["labels"] for row in rows], batch_first=True, padding_value=IGNORE)
    return {
        "input_ids": pad_sequence([row["input_ids"] for row in rows], batch_first=True),
        "attention_mask": pad_sequence([torch.ones_like(row["input_ids"]) for row in rows], batch_first=True),
        "labels": labels,
        "shift_labels": labels,
    }


@dataclass(frozen=True)
class Material:
    sequences: list[SpeechSequence]
    rows: list[dict[str, Tensor]]  # the same for PEFT's models
    batch: int  # sequences of a step, on average
    device: torch.device

    def drawn(self, drawing: Drawing) -> Callable[[int, int], Sequence[int]]:
        """(step, seed) -> indices of a batch."""
        lengths = [len(s) for s in self.sequences]
        if drawing == "random":
            return lambda *numbers: np.random.default_rng(numbers).choice(len(lengths), self.batch, False).tolist()
        # A bucket's batch is rounded down to whole sequences: half of one on average.
        buckets = LengthBuckets(lengths, [1.0] * len(lengths), round((self.batch + 0.5) * float(np.mean(lengths))))
        return lambda step, seed: buckets.draw(step, seed).tolist()


# Turns


@dataclass
class Turn:
    """What one turn did, warm-up left out."""

    warmup_steps: int
    steps: int
    clock: Callable[[], float]
    sequences: list[list[int]] = field(default_factory=list)  # lengths, of every batch that was made
    marks: list[float] = field(default_factory=list)  # the clock when a step began

    def begin_step(self) -> bool:
        """Whether this step is one too many: then the turn is over."""
        number = self.warmup_steps + self.steps
        if len(self.marks) in (self.warmup_steps, number):
            self.marks.append(self.clock())
        else:
            self.marks.append(0.0)
        return len(self.marks) > number

    @property
    def sec(self) -> float:
        return self.marks[self.warmup_steps + self.steps] - self.marks[self.warmup_steps]

    @property
    def batches(self) -> list[list[int]]:
        return self.sequences[self.warmup_steps : self.warmup_steps + self.steps]


@dataclass(frozen=True)
class Engine:
    name: str
    module: nn.Module
    drawing: Drawing
    by_trainer: bool = False

    def turn(self, material: Material, turn: Turn, seed: int, precision: str) -> None:
        with tempfile.TemporaryDirectory() as folder, quietly():
            AcceleratorState._reset_state(reset_partial_state=True)  # holds the precision of who was there before
            if self.by_trainer:
                self._turn_of_trainer(material, turn, seed, precision, folder)
            else:
                self._turn_of_loop(material, turn, seed, precision, Path(folder))
        for parameter in self.module.parameters():
            parameter.grad = None

    def batch(self, material: Material, indices: Sequence[int]) -> Batch:
        if isinstance(self.module, PeftModel):
            rows = grown_batch([material.rows[i] for i in indices])
            return {name: tensor.to(material.device) for name, tensor in rows.items()}
        return collate([material.sequences[i] for i in indices], material.device)

    def loss(self, batch: Batch) -> Tensor:
        if isinstance(self.module, PeftModel):
            return self.module(**batch, use_cache=False).loss
        loss = self.module(batch)
        return loss[0] if isinstance(self.module, SpeechExpertTraining) else loss

    def _turn_of_loop(self, material: Material, turn: Turn, seed: int, precision: str, folder: Path) -> None:
        draw = material.drawn(self.drawing)

        def batch_at(number: int) -> Batch:
            if turn.begin_step():
                raise _Enough
            indices = draw(number, seed)
            turn.sequences.append([len(material.sequences[i]) for i in indices])
            return self.batch(material, indices)

        config = LoopConfig(steps=_STEPS, precision=precision, seed=seed)
        with suppress(_Enough), redirect_stderr(io.StringIO()):  # where the progress bar goes
            run(config, folder, {SPEECH: self.module}, batch_at, lambda _, b, __: ({SPEECH: self.loss(b)}, {}))

    def _turn_of_trainer(self, material: Material, turn: Turn, seed: int, precision: str, folder: str) -> None:
        def made(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
            turn.sequences.append([len(row["input_ids"]) for row in rows])
            return grown_batch(rows)

        loop = LoopConfig()  # the same optimiser
        grouped: dict[str, Any] = {}
        if self.drawing == "grouped":
            newer = "train_sampling_strategy" in {f.name for f in fields(TrainingArguments)}
            grouped = {"train_sampling_strategy": "group_by_length"} if newer else {"group_by_length": True}
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=material.batch,
            max_steps=_STEPS,
            learning_rate=loop.lr,
            lr_scheduler_type="cosine",
            warmup_steps=loop.warmup_steps,
            weight_decay=loop.weight_decay,
            adam_beta1=loop.betas[0],
            adam_beta2=loop.betas[1],
            adam_epsilon=1e-9,
            max_grad_norm=loop.grad_clip,
            bf16=precision == "bf16",
            seed=seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            use_cpu=material.device.type == "cpu",
            dataloader_pin_memory=material.device.type == "cuda",
            **grouped,
        )
        trainer = Trainer(model=self.module, args=arguments, train_dataset=cast(Any, material.rows), data_collator=made)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(_Marking(turn))
        with suppress(_Enough):
            trainer.train()
        trainer.accelerator.unwrap_model(self.module, keep_fp32_wrapper=False)  # it wraps anew each time


class _Marking(TrainerCallback):
    def __init__(self, turn: Turn):
        self.turn = turn

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        if self.turn.begin_step():
            raise _Enough


class _Enough(Exception):
    """The turn is over: neither loop is to write anything."""


def engine_clock(device: torch.device) -> Callable[[], float]:
    """Seconds: CPU time of this process, or wall time when the GPU is done."""
    if device.type == "cpu":
        return time.process_time

    def clock() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return clock


# Memory


class PeakMemory:
    """Bytes that a block needed at most beside what was held when it began; None where the system does not tell."""

    def __init__(self, device: torch.device):
        self.device = device
        self.bytes: int | None = None

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        else:
            self._clear()
            self._before = self._status("VmRSS")
        return self

    def __exit__(self, *args: Any) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device) - self._before
        elif self._before:
            self.bytes = self._status("VmHWM") - self._before

    @staticmethod
    def _clear() -> None:
        """Gives freed memory back to the system, and lets the peak begin anew (Linux with glibc)."""
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")

    @staticmethod
    def _status(name: str) -> int:
        try:
            lines = Path("/proc/self/status").read_text().splitlines()
        except OSError:
            return 0
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), 0)
