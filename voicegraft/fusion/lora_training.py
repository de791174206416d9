"""Training of LoRA experts with PEFT: of speech, of text, or of both in one adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from voicegraft.core.artifacts import load_artifact, save_artifact
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.spelling import Spells
from voicegraft.fusion.depth import lower_layers
from voicegraft.fusion.experts import (
    SPEECH,
    TEXT,
    Belongs,
    LoraSettings,
    attach_lora,
    save_lora,
    take_adapter,
)
from voicegraft.fusion.sketch import Sketch
from voicegraft.fusion.speech_embedding import ROWS, ROWS_KIND, Layout, SpeechEmbedding, SpeechEmbeddingConfig
from voicegraft.tokenizers.vocabulary import SpeechVocabulary


class TextExpertTraining(nn.Module):
    """A frozen backbone with a fresh LoRA that learns to answer questions."""

    def __init__(self, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lora: LoraSettings):
        super().__init__()
        self.tokenizer = tokenizer
        self.belongs = Belongs.to(backbone, tokenizer)
        self.peft_model = attach_lora(backbone, lora, TEXT)

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss on a batch of ``data.chat.collate_answers``."""
        return answer_loss(self.peft_model, batch)

    def save(self, folder: Path) -> None:
        """Writes PEFT's adapter folder ``folder/text``."""
        save_lora(self.peft_model, TEXT, folder, self.belongs)


def answer_loss(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean cross-entropy of the tokens marked as answers, of a batch of ``data.chat.collate_answers``.

    Conversations with audio come with their ``inputs_embeds`` ``[B, L, D]`` too (``fusion.listening.embedded``).
    """
    given = "inputs_embeds" if "inputs_embeds" in batch else "input_ids"
    logits = model(**{given: batch[given]}, use_cache=False).logits
    wanted = batch["answer"][:, 1:]
    said, target = logits[:, :-1][wanted].float(), batch["input_ids"][:, 1:][wanted]
    loss = F.cross_entropy(said, target)
    return loss, {"answers": loss.detach(), "answer_accuracy": (said.argmax(-1) == target).float().mean()}


class SpeechExpertTraining(nn.Module):
    """A frozen backbone with a fresh LoRA and speech embedding that learn to speak."""

    def __init__(
        self,
        backbone: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        vocabulary: SpeechVocabulary,
        semantic: str,
        lora: LoraSettings,
        code_rows: Callable[[int, float], Tensor] | None = None,
        activated: bool = False,
        layout: Layout = "guided",
        frames_per_step: int = 1,
        num_layers: int = 0,
        spells: Spells = "all",
    ):
        """
        Args:
            semantic: fingerprint of the semantic tokenizer.
            code_rows: rows of its codes to begin with (``SemanticEncoder.rows``).
            activated: the LoRA acts from the first speech token on, not on the text before it; this and what follows are
                explained in ``SpeechEmbeddingConfig``.
        """
        super().__init__()
        self.tokenizer = tokenizer
        self.belongs = Belongs.to(backbone, tokenizer)
        self._sketch = Sketch.of(backbone)  # now: later its weights may be spread over processes
        embedding: Tensor = cast(nn.Embedding, backbone.get_input_embeddings()).weight
        width = embedding.shape[1]
        config = SpeechEmbeddingConfig(
            vocabulary,
            width,
            2 * width,
            self.belongs.backbone,
            semantic,
            activated,
            layout,
            frames_per_step,
            num_layers,
            spells,
        )
        self.speech_embedding = SpeechEmbedding(config)
        self.speech_embedding.initialise(float(embedding.detach().float().std()), code_rows)
        self.peft_model = attach_lora(backbone, lora, SPEECH, num_layers)
        # [B, L, 1] where the LoRA acts. It stays after the forward: gradient checkpointing runs the layers again.
        self._acts: Tensor | None = None
        if activated:
            for name, module in self.peft_model.named_modules():
                if name.endswith(f".lora_B.{SPEECH}"):
                    module.register_forward_hook(self._masked)

    @property
    def vocabulary(self) -> SpeechVocabulary:
        return self.speech_embedding.config.vocabulary

    @property
    def backbone(self) -> PreTrainedModel:
        """The causal LM, with the LoRA inside its layers."""
        return cast(PreTrainedModel, self.peft_model.get_base_model())

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss on a batch of ``data.sequences`` fields, or of answered questions (one LoRA for both).

        A batch may come with what a teacher says in place of its codes (``taught``, see ``SpeechEmbedding.loss``).
        """
        if "answer" in batch:
            self._acts = None
            return answer_loss(self.peft_model, batch)
        text = self.backbone.get_input_embeddings()(batch["text"].clamp(min=0))
        embeddings = self.speech_embedding.inputs(batch, text)
        self._acts = (batch["token"] >= 0).cumsum(1)[..., None] > 0
        inner = lower_layers(self.backbone, self.speech_embedding.config.num_layers)
        hidden = inner(inputs_embeds=embeddings, use_cache=False).last_hidden_state
        return self.speech_embedding.loss(hidden, batch, batch.get("taught"))

    def _masked(self, module: nn.Module, inputs: Any, added: Tensor) -> Tensor:
        return added if self._acts is None else added * self._acts

    def save(self, folder: Path, provenance: dict[str, object]) -> None:
        """Writes PEFT's adapter folder ``folder/speech``, the speech embedding ``folder/rows`` and the backbone's sketch."""
        save_lora(self.peft_model, SPEECH, folder, self.belongs)
        embedding = self.speech_embedding
        tensors = embedding.state_dict()
        self._sketch.save(folder)
        save_artifact(folder / ROWS, ROWS_KIND, embedding.config, tensors, provenance, torch.float16)

    def take(self, folder: Path) -> None:
        """Copies the weights of a saved expert of the same shape, to go on training from them.

        Raises:
            VoicegraftError: another vocabulary, tokenizer, backbone or LoRA shape.
        """
        saved = load_artifact(folder / ROWS, ROWS_KIND, SpeechEmbeddingConfig)
        embedding = self.speech_embedding
        config, other = (
            replace(c, frames_per_step=1, activated=False, spells="all") for c in (embedding.config, saved.config)
        )
        if config != other:
            raise VoicegraftError(
                f"the expert in {folder} has another vocabulary, layout, semantic tokenizer, backbone or num_layers than this "
                "run: train from the start, or with the parts it was trained with"
            )
        # An expert of one frame per step is a fine beginning for one of more: what says the others is new.
        new = {n for n in embedding.state_dict() if n.startswith(("slots.", "follow."))}
        if saved.config.frames_per_step == embedding.config.frames_per_step:
            new = set()
        elif saved.config.frames_per_step > 1:
            raise VoicegraftError(
                f"the expert in {folder} says {saved.config.frames_per_step} frames per step, this run "
                f"{embedding.config.frames_per_step}: only an expert of one frame per step can be taken over"
            )
        embedding.load_state_dict({**embedding.state_dict(), **saved.tensors} if new else saved.tensors)
        take_adapter(self.peft_model, SPEECH, folder / SPEECH)
