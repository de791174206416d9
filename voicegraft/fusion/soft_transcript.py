"""Hearing without training: any text LLM, any Whisper, and the soft transcript between them (``connectors/states.py``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from voicegraft.core.config import to_dict
from voicegraft.core.files import write_text
from voicegraft.core.hub import is_hub_name
from voicegraft.core.parts import JUDGE
from voicegraft.encoders.listening import Ears, EncoderSettings
from voicegraft.fusion.backbone import backbone_fingerprint
from voicegraft.fusion.connectors.base import ConnectorConfig, embedding_rows
from voicegraft.fusion.connectors.states import States, StatesConfig
from voicegraft.fusion.listening import CONNECTOR, HEADER, Hearing, ListeningHeader, known_as

SOFT = "soft"  # in the place of a listening pack


def soft_header(recogniser: str | Path | None = None, backbone: str = "") -> ListeningHeader:
    """What a listening pack would say of it.

    Args:
        recogniser: a Whisper, as in ``EncoderSettings.model``; None is the usual one.
    """
    settings = EncoderSettings(str(recogniser or JUDGE), reads="decoder")
    return ListeningHeader("soft transcript", backbone=backbone, encoder=settings, mode="pure")


def soft_hearing(
    backbone: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    fingerprint: str = "",
    recogniser: str | Path | None = None,
) -> Hearing:
    """Hears for a backbone, without a listening pack.

    Args:
        fingerprint: the backbone's, where it is known already.

    Raises:
        VoicegraftError: the recogniser is not there, not fetched, damaged, or no Whisper.
    """
    fingerprint = fingerprint or backbone_fingerprint(backbone)
    ears = Ears(soft_header(recogniser).encoder)
    connector = _connector(backbone, ears, fingerprint)
    connector.attach(backbone, tokenizer, fingerprint)
    return Hearing(connector, lambda: ears)


def write_soft_pack(
    folder: Path,
    backbone: PreTrainedModel,
    recogniser: str | Path | None = None,
    name: str = "",
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """The same as a listening pack, which a training may begin with.

    Args:
        name: the backbone's, where it is a part or on the Hub.
    """
    header = soft_header(recogniser, name if is_hub_name(name) else "")
    _connector(backbone, Ears(header.encoder), backbone_fingerprint(backbone)).save(
        folder / CONNECTOR, dict(provenance or {})
    )
    header = replace(header, encoder=replace(header.encoder, model=known_as(header.encoder.model)))
    write_text(folder / HEADER, json.dumps(to_dict(header), indent=2))


def _connector(backbone: PreTrainedModel, ears: Ears, fingerprint: str) -> States:
    width = embedding_rows(backbone).shape[1]
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)  # what is added is nothing yet, whatever it is multiplied with
        return States(StatesConfig(**vars(ConnectorConfig(ears.width, width, ears.fingerprint, fingerprint))))
