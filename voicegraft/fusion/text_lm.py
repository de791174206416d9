"""A text LLM that writes, alone or with experts: what a listener answers with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from voicegraft.fusion.backbone import BackboneSettings, load_backbone
from voicegraft.fusion.experts import TEXT
from voicegraft.fusion.mole import MoLE


@dataclass(frozen=True)
class TextLM:
    """A backbone with its experts, "text" among them."""

    mole: MoLE
    tokenizer: PreTrainedTokenizerBase

    @property
    def backbone(self) -> PreTrainedModel:
        return self.mole.backbone

    def writing(self) -> str:
        """The gates of a text to be continued, for ``mole.gated``."""
        return TEXT

    @staticmethod
    def load(backbone: str | Path, settings: BackboneSettings | None = None) -> TextLM:
        """The untouched backbone; arguments and errors as of ``load_backbone``."""
        model, tokenizer = load_backbone(backbone, settings)
        return TextLM(MoLE(model, {TEXT: None}), tokenizer)
