"""Shards of speech on disk: levelled 16-bit audio with its manifest, and the features that own tokenizers are trained on."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from voicegraft.audio.level import levelled_pcm
from voicegraft.audio.mel import LogMel, MelConfig
from voicegraft.audio.pitch import relative_pitch
from voicegraft.core.runtime import single_thread
from voicegraft.data.manifest import Utterance, write_manifest
from voicegraft.data.prepared import shard_folders
from voicegraft.data.shards import RaggedArray, write_ragged


def write_pairs(folder: Path, pairs: Iterable[tuple[Utterance, np.ndarray]], sample_rate: int) -> None:
    """Writes audio ``[T]`` (int16) one by one, so memory stays small, and then the manifest."""
    rows: list[Utterance] = []

    def audio() -> Iterable[np.ndarray]:
        for utterance, samples in pairs:
            rows.append(utterance)
            yield samples

    write_ragged(folder / "audio", audio(), "int16", key=f"pcm-{sample_rate}")
    write_manifest(folder, rows)


def write_speech(folder: Path, pairs: Iterable[tuple[Utterance, np.ndarray]], mel: MelConfig) -> None:
    """Levels samples ``[T]`` in [-1, 1] and writes manifest, 16-bit audio and mel features; the mel folder comes last."""
    frame = 2 * mel.hop  # 50 Hz
    write_pairs(folder, ((u, levelled_pcm(samples, mel.sample_rate, frame)) for u, samples in pairs), mel.sample_rate)
    add_mel(folder, mel)


def add_mel(folder: Path, mel: MelConfig) -> None:
    """Writes ``mel/`` beside the audio of a shard."""
    log_mel = LogMel(mel)
    with torch.inference_mode():
        mels = (log_mel(samples).T.numpy() for samples in _samples(folder, mel))
        write_ragged(folder / "mel", mels, "float16", key=mel.key)


def add_pitch(folder: Path, mel: MelConfig) -> None:
    """Writes ``pitch/`` beside the audio of a shard, one value per two frames of the mel."""
    hop = 2 * mel.hop
    tracks = (relative_pitch(samples, mel.sample_rate, hop).numpy() for samples in _samples(folder, mel))
    write_ragged(folder / "pitch", tracks, "float16", key=f"pitch-{mel.sample_rate}-{hop}")


def add_features(work: Path, mel: MelConfig, num_workers: int) -> None:
    """Writes mel and pitch of all shards of ``work/speech`` that lack them."""
    shards = [f for f in shard_folders(work) if not all((f / k / "index.json").is_file() for k in ("mel", "pitch"))]
    if not shards:
        return
    with multiprocessing.get_context("spawn").Pool(num_workers, initializer=single_thread) as pool:
        add = partial(_add_missing, mel)
        for _ in tqdm(pool.imap_unordered(add, shards), total=len(shards), desc="features", unit="shard"):
            pass


def _add_missing(mel: MelConfig, folder: Path) -> None:
    for kind, add in (("mel", add_mel), ("pitch", add_pitch)):
        if not (folder / kind / "index.json").is_file():
            add(folder, mel)


def _samples(folder: Path, mel: MelConfig) -> Iterable[torch.Tensor]:
    audio = RaggedArray(folder / "audio", key=f"pcm-{mel.sample_rate}")
    return (torch.from_numpy(a / np.float32(32768)) for a in audio)
