"""A text LLM with experts beside its weights: what writes, and with a listening expert hears."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from voicegraft.fusion.backbone import BackboneSettings, load_backbone
from voicegraft.fusion.experts import LISTENING, TEXT, Belongs, Expert
from voicegraft.fusion.listening import Hearing
from voicegraft.fusion.mole import MoLE, Routing
from voicegraft.fusion.router import Router
from voicegraft.fusion.soft_transcript import SOFT, soft_hearing


class TextLM(nn.Module):
    """``text_logits`` is the untouched backbone, bit for bit, where the text expert is the identity."""

    def __init__(
        self,
        mole: MoLE,
        tokenizer: PreTrainedTokenizerBase,
        router: Router | None = None,
        hearing: Hearing | None = None,
    ):
        """
        Args:
            mole: with the expert "text", and "listening" where it hears; there may be more.
            router: None lets the task choose its expert (the oracle gate).
        """
        super().__init__()
        self.mole = mole
        self.backbone = mole.backbone
        self.tokenizer = tokenizer
        self.router = router
        self.hearing = hearing
        self.fixed: str | Tensor | None = None  # gates for everything, whatever router and task say; for comparisons

    def text_logits(self, input_ids: Tensor, **kwargs: Any) -> Tensor:
        """Text ids ``[B, T]`` -> the text expert's logits ``[B, T, V]``; of the identity: the untouched backbone's."""
        with self.mole.gated(TEXT):
            return self.backbone(input_ids=input_ids, **kwargs).logits

    def writing(self, hears: bool = False) -> str | Tensor | Routing:
        """The gates for one batch of texts to be continued, for ``mole.gated``.

        Args:
            hears: whether there is audio in them. Then the listening expert acts: that is known, so no router, which has
                never seen the vectors of audio, is asked.
        """
        if self.fixed is not None:
            return self.fixed
        if hears:
            return LISTENING
        return TEXT if self.router is None else self.router.start()

    def embed_text(self, ids: Tensor) -> Tensor:
        """Text ids ``[B, T]`` -> the backbone's embeddings ``[B, T, D]``."""
        return self.backbone.get_input_embeddings()(ids)

    @staticmethod
    def load(
        backbone_folder: str | Path,
        settings: BackboneSettings | None = None,
        listening: Path | str | None = None,
        text_expert: Path | None = None,
        encoder: str | Path | None = None,
    ) -> TextLM:
        """Loads a backbone that writes.

        Args:
            backbone_folder: or its name on the Hub.
            settings: of the backbone; float32 if not given.
            listening: a listening pack, or "soft": a recogniser's soft transcript, which needs none.
            text_expert: PEFT's adapter folder; None is the identity.
            encoder: the speech encoder, if not what the listening pack names.

        Raises:
            VoicegraftError: something was trained for another backbone, is damaged, or does not fit the rest.
        """
        backbone, tokenizer = load_backbone(backbone_folder, settings)
        belongs = Belongs.to(backbone, tokenizer)
        experts = {TEXT: None if text_expert is None else Expert.load(text_expert, belongs)}
        hearing = None
        if str(listening) == SOFT:
            experts[LISTENING] = None
            hearing = soft_hearing(backbone, tokenizer, belongs.backbone, encoder)
        elif listening is not None:
            experts[LISTENING] = Hearing.expert(Path(listening), belongs)
            hearing = Hearing.load(Path(listening), backbone, tokenizer, belongs.backbone, encoder)
        return TextLM(MoLE(backbone, experts), tokenizer, hearing=hearing).eval().requires_grad_(False)
