"""A pack that speaks already, as the teacher of another speech expert (distillation, arXiv 1503.02531).

A recording says one token where many would do: half of what is learnt from it is noise. A teacher of the same semantic
tokens and units tells its whole distribution, so a new expert learns in a fraction of the steps what the old one knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from voicegraft.core.errors import VoicegraftError
from voicegraft.data.batches import collate
from voicegraft.data.sequences import SpeechSequence
from voicegraft.data.speech_sequences import Context, Guided, Spelling
from voicegraft.fusion.speech_lm import SpeechLM
from voicegraft.inference.pack import Pack, open_pack
from voicegraft.recipes.align import teacher_folder
from voicegraft.text.units import UNITS
from voicegraft.tokenizers.vocabulary import SpeechVocabulary


class SpeechTeacher:
    """The speech expert of a pack, on its own backbone."""

    def __init__(self, pack: Pack, semantic: str):
        """
        Args:
            semantic: fingerprint of the semantic tokens that are learnt.

        Raises:
            VoicegraftError: the pack speaks others, or in the plain layout.
        """
        self.lm: SpeechLM = pack.lm
        config = self.lm.speech_embedding.config
        if (config.semantic, config.layout, config.vocabulary.units) != (semantic, "guided", UNITS):
            raise VoicegraftError(
                f"{pack.folder} cannot teach: expected the guided layout and semantic tokens {semantic}, found the "
                f"{config.layout} layout and {config.semantic}; take its semantic tokenizer, or leave teacher out"
            )
        if config.activated:
            raise VoicegraftError(f"{pack.folder} cannot teach: its expert acts on a part of the sequence (activated)")

    @staticmethod
    def load(name: str, semantic: str) -> SpeechTeacher:
        """
        Args:
            name: folder or Hub name of a pack.
        """
        return SpeechTeacher(open_pack(teacher_folder(name)), semantic)

    @property
    def vocabulary(self) -> SpeechVocabulary:
        return self.lm.vocabulary

    def reader(self, own: Guided) -> Guided:
        """What makes the sequences of clips as the teacher reads them."""
        tokenizer = self.lm.tokenizer
        return replace(
            own,
            vocabulary=self.vocabulary,
            context=Context(tokenizer),
            frames_per_step=self.lm.speech_embedding.config.frames_per_step,
            spelling=Spelling(tokenizer, own.spelling.lexicon, own.spelling.speller),
            spells=self.lm.speech_embedding.config.spells,
        )

    @torch.no_grad()
    def expects(self, sequences: Sequence[SpeechSequence], device: torch.device) -> Tensor:
        """What follows in the spoken parts of sequences by ``reader``, one behind the other.

        Returns:
            Log-probabilities of END_OF_UNIT and of the codes ``[M, 1 + codes]``.
        """
        embedding = self.lm.to(device).speech_embedding
        if not sequences:
            return embedding.head.weight.new_zeros(0, 1 + self.vocabulary.num_codes)
        batch = collate(sequences, device)
        hidden = self.lm.hidden(embedding.inputs(batch, self.lm.embed_text(batch["text"].clamp(min=0))))
        return embedding.predicted(hidden, batch).speaking(self.vocabulary).log_softmax(-1)
