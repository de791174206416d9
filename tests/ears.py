"""A tiny listening pack with weights at random."""

import json
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from tests import tiny
from tests.encoders import sounds, write_encoder
from voicegraft.core.config import to_dict
from voicegraft.core.messages import Waveform
from voicegraft.encoders.listening import Ears, EncoderSettings
from voicegraft.fusion.connectors.stack import Stack, StackConfig
from voicegraft.fusion.experts import LISTENING, Belongs
from voicegraft.fusion.listening import CONNECTOR, HEADER, ListeningHeader


def write_listening(
    folder: Path,
    backbone: PreTrainedModel,
    family: str = "whisper",
    expert: bool = True,
) -> Path:
    """It holds its encoder, too; the connector stacks 4 frames."""
    folder.mkdir(parents=True)
    encoder = write_encoder(folder / "encoder", family)
    ears = Ears(EncoderSettings(str(encoder)))
    belongs = Belongs.to(backbone, tiny.byte_tokenizer())
    width = backbone.get_input_embeddings().weight.shape[1]
    torch.manual_seed(3)
    connector = Stack(StackConfig(ears.width, width, ears.fingerprint, belongs.backbone, stacked=4, hidden=24))
    connector.save(folder / CONNECTOR, {})
    header = ListeningHeader("tiny", encoder=EncoderSettings("encoder"))
    (folder / HEADER).write_text(json.dumps(to_dict(header)))
    if expert:
        tiny.lora(backbone, folder, LISTENING)
    return folder


def sound(seconds: float, seed: int = 0, rate: int = 16_000) -> Waveform:
    return Waveform(sounds(round(seconds * rate), seed)[0].numpy().astype(np.float32), rate)
