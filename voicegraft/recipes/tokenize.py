"""Speech -> token shards, keyed by the tokenizer's fingerprint so that tokens of two tokenizers never mix.

    voicegraft recipe tokenize work=runs/pocket
    voicegraft recipe tokenize work=runs/big workers=16                  # processes of this machine
    voicegraft recipe tokenize work=runs/big workers=64 engine=ray ray_address=auto gpus_per_worker=0.5

Writes ``tokens/semantic/<shard>`` and ``tokens/codec/<shard>`` in the work folder. Shards that are there are kept, so the same
command goes on after any interruption. All engines write the same bytes (docs/training.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from voicegraft.audio.io import resampled
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.runtime import pick_device, single_thread
from voicegraft.data.manifest import read_manifest
from voicegraft.data.prepared import pcm_rate, shard_folders
from voicegraft.data.shards import RaggedArray, write_ragged
from voicegraft.recipes.command import recipe_main
from voicegraft.recipes.tokenize_processes import in_processes, in_this_process, with_progress
from voicegraft.recipes.tokenize_ray import in_ray
from voicegraft.tokenizers.base import SpeechTokenizer
from voicegraft.tokenizers.loading import open_codec, open_semantic
from voicegraft.tokenizers.semantic import SemanticTokenizer

Opener = Callable[[Path, str, str], SpeechTokenizer]  # work folder, kind, device


@dataclass(frozen=True)
class TokenizeConfig:
    work: str = "runs/mine"  # the work folder
    kinds: tuple[Literal["semantic", "codec"], ...] = ("semantic", "codec")
    codec_shards: tuple[str, ...] = ()  # beginnings of the names of those the codec encodes; empty: all human speech
    workers: int = 1  # processes, or actors of Ray; each computes on one thread
    engine: Literal["local", "ray"] = "local"
    ray_address: str = ""  # of a running cluster, "auto" for the one on this machine; empty: start one here
    gpus_per_worker: float = 0.0  # what each actor of Ray asks for; locally the workers share all GPUs in turns
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"expected at least one worker, got {self.workers}")


def open_tokenizer(work: Path, kind: str, device: str) -> SpeechTokenizer:
    """The work folder's "semantic" or "codec" tokenizer, on a device by ``core.runtime``'s name."""
    tokenizer = open_semantic(work / "semantic") if kind == "semantic" else open_codec(work / "codec")
    if isinstance(tokenizer, nn.Module):
        tokenizer.to(pick_device(device))
    return tokenizer


def tokenize(config: TokenizeConfig, opener: Opener = open_tokenizer) -> None:
    """Tokenizes what is not yet there; ``opener`` must be importable by name when there are several workers.

    Raises:
        VoicegraftError: no speech, no tokenizer, tokens of another one in its place, or workers that keep dying.
    """
    work = Path(config.work)
    for kind in config.kinds:
        # Only the fingerprint is wanted here; each worker opens a tokenizer of its own.
        fingerprint = opener(work, kind, "cpu").spec.fingerprint
        hours = {name: shard_hours(work, name) for name in shard_names(work, kind, config.codec_shards)}
        left = [name for name in hours if not _is_done(work, kind, name, fingerprint)]
        left.sort(key=lambda name: -hours[name])  # long ones first: then all workers end at about the same time
        done = _engine(config, ShardWorker(work, kind, config.device, opener), left)
        with_progress(f"{kind} tokens", hours, left, done)


def _engine(config: TokenizeConfig, worker: ShardWorker, names: list[str]) -> Iterator[str]:
    """Names of shards as they become done."""
    if not names:
        return iter(())
    if config.engine == "ray":
        return in_ray(worker, names, config.workers, config.gpus_per_worker, config.ray_address)
    if config.workers > 1:
        return in_processes(worker, names, config.workers)
    return in_this_process(worker, names)


class ShardWorker:
    """Tokenizes shards by name, one after the other; travels to another process before it opens its tokenizer."""

    def __init__(self, work: Path, kind: str, device: str, opener: Opener):
        self.work, self.kind, self.device, self.opener = work.absolute(), kind, device, opener
        self._tokenizer: SpeechTokenizer | None = None

    def __call__(self, shard: str) -> None:
        if self._tokenizer is None:
            single_thread()  # sums on one thread have one order
            self._tokenizer = self.opener(self.work, self.kind, self.device)
        tokenize_shard(self.work, self.kind, shard, self._tokenizer)


@torch.inference_mode()
def tokenize_shard(work: Path, kind: str, shard: str, tokenizer: SpeechTokenizer) -> None:
    """Writes ``work/tokens/<kind>/<shard>``, the codes ``[T // hop, K]`` of every clip, unless it is there.

    ``T`` is the clip's length at the tokenizer's rate, ``hop`` as in its spec.

    Raises:
        VoicegraftError: the shard's audio is missing or damaged, or tokens of another tokenizer are in the place.
    """
    spec = tokenizer.spec
    if _is_done(work, kind, shard, spec.fingerprint):
        return
    dtype = "int16" if spec.vocab_size <= np.iinfo(np.int16).max else "int32"
    rows = (codes.T.cpu().numpy() for codes in _codes(work / "speech" / shard, tokenizer))
    write_ragged(work / "tokens" / kind / shard, rows, dtype, key=spec.fingerprint)


def _codes(folder: Path, tokenizer: SpeechTokenizer) -> Iterator[Tensor]:
    """Codes ``[K, T // hop]`` of each clip of a shard of speech."""
    spec, device = tokenizer.spec, _device(tokenizer)
    if isinstance(tokenizer, SemanticTokenizer) and (folder / "mel" / "index.json").is_file():
        mels = RaggedArray(folder / "mel")
        if mels.key == tokenizer.config.mel.key:  # what it would compute first is there already
            for mel in mels:
                yield tokenizer.encode_mel(torch.from_numpy(mel.astype(np.float32).T)[None].to(device))[0]
            return
    audio, rate = _audio(folder)
    for clip in audio:
        num_samples = len(clip) * spec.sample_rate // rate  # so tokenizers of one frame rate agree on the frames
        if num_samples < spec.hop:
            yield torch.zeros(spec.num_codebooks, 0, dtype=torch.long)
            continue
        samples = resampled(clip / np.float32(32768), rate, spec.sample_rate)[:num_samples]
        samples = np.clip(samples, -1.0, 1.0)  # resampling overshoots full scale a little
        codes = tokenizer.encode(torch.from_numpy(samples)[None].to(device))[0]
        if codes.shape != (spec.num_codebooks, num_samples // spec.hop):
            raise RuntimeError(f"{num_samples} samples became codes {tuple(codes.shape)}, not what {spec} promises")
        yield codes


def _device(tokenizer: SpeechTokenizer) -> torch.device:
    tensors = tokenizer.state_dict().values() if isinstance(tokenizer, nn.Module) else ()
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def shard_names(work: Path, kind: str, codec_shards: tuple[str, ...] = ()) -> list[str]:
    """The shards of ``work/speech`` that are tokenized; the codec takes human speech alone unless told which.

    Raises:
        VoicegraftError: there are none.
    """
    folders = shard_folders(work)
    if not folders:
        raise VoicegraftError(f"no prepared speech in {work / 'speech'}: run voicegraft prepare first")
    if kind == "codec":
        if codec_shards:
            folders = [folder for folder in folders if folder.name.startswith(codec_shards)]
        else:
            folders = [folder for folder in folders if not all(row.synthetic for row in read_manifest(folder))]
        if not folders:
            wanted = ", ".join(codec_shards) or "human speech"
            raise VoicegraftError(f"expected shards of {wanted} in {work / 'speech'}, found none; set codec_shards")
    return [folder.name for folder in folders]


def shard_hours(work: Path, shard: str) -> float:
    """Hours of audio."""
    audio, rate = _audio(work / "speech" / shard)
    return int(audio.offsets[-1]) / rate / 3600


def _audio(folder: Path) -> tuple[RaggedArray, int]:
    """A shard's clips, int16 ``[T]``, and their rate in Hz."""
    audio = RaggedArray(folder / "audio")
    return audio, pcm_rate(folder, audio)


def _is_done(work: Path, kind: str, shard: str, fingerprint: str) -> bool:
    """Whether a shard's tokens are there; what does not belong there is the user's to remove."""
    folder = work / "tokens" / kind / shard
    if not (folder / "index.json").is_file():
        return False
    tokens = RaggedArray(folder)
    if tokens.key != fingerprint:
        raise VoicegraftError(
            f"{folder} holds tokens of tokenizer {tokens.key}, but {work / kind} is {fingerprint}: "
            f"delete {folder.parent}, or use another work folder"
        )
    num_clips = len(RaggedArray(work / "speech" / shard / "audio"))
    if len(tokens) != num_clips:
        raise VoicegraftError(
            f"{folder} holds {len(tokens)} clips, the speech {num_clips}: delete it and run this again"
        )
    return True


main = recipe_main(tokenize, __doc__, one_thread=False)


if __name__ == "__main__":
    main()
