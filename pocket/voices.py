"""Of the voices that a work folder was trained on, those that ship: they get their names, and nothing is left of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from voicegraft.acoustic.acoustic_lm import AcousticLM
from voicegraft.core.artifacts import load_artifact, save_artifact
from voicegraft.fusion.speech_embedding import ROWS, ROWS_KIND, SpeechEmbeddingConfig
from voicegraft.guard.recognizer import UnitRecognizer
from voicegraft.tokenizers.vocabulary import NUM_CONTROLS


def keep_voices(parts: Path, names: Mapping[str, str]) -> None:
    """Rewrites the acoustic LM, the speech expert's rows and the monitor in ``parts``.

    Args:
        names: speaker as in training -> name of the voice, in the order of the pack's.
    """
    acoustic = AcousticLM.load(parts / "acoustic")
    rows = torch.tensor([acoustic.config.voices.index(speaker) for speaker in names])
    voices = acoustic.voices.weight[rows]
    kept = AcousticLM(replace(acoustic.config, voices=tuple(names.values())))
    kept.load_state_dict({**acoustic.state_dict(), "voices.weight": voices})
    kept.save(parts / "acoustic", load_artifact(parts / "acoustic", AcousticLM.KIND, AcousticLM.CONFIG).provenance)

    folder = parts / "expert" / ROWS
    expert = load_artifact(folder, ROWS_KIND, SpeechEmbeddingConfig)
    vocabulary = expert.config.vocabulary
    ids = [*range(NUM_CONTROLS), *map(vocabulary.voice_id, names), *range(vocabulary.first_unit, vocabulary.size)]
    tensors = {
        name: tensor[ids] if len(tensor) == vocabulary.size and name.startswith(("token.", "head.")) else tensor
        for name, tensor in expert.tensors.items()
    }
    config = replace(expert.config, vocabulary=replace(vocabulary, voices=tuple(names.values())))
    save_artifact(folder, ROWS_KIND, config, tensors, expert.provenance, torch.float16)

    monitor = UnitRecognizer.load(parts / "monitor")
    pace = {pace.voice: pace for pace in monitor.config.pace}
    monitor.config = replace(
        monitor.config, pace=tuple(replace(pace[speaker], voice=name) for speaker, name in names.items())
    )
    monitor.save(
        parts / "monitor", load_artifact(parts / "monitor", UnitRecognizer.KIND, UnitRecognizer.CONFIG).provenance
    )
