"""Speech -> token shards, keyed by the tokenizer's fingerprint so that tokens of two tokenizers never mix.

    python -m voicegraft.recipes.tokenize work=runs/pocket

Writes ``tokens/semantic/<shard>`` for all speech and ``tokens/codec/<shard>`` for the recordings; what is there is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from voicegraft.core.runtime import pick_device, single_thread
from voicegraft.data.shards import RaggedArray, write_ragged
from voicegraft.data.speech import Clip, PreparedSpeech
from voicegraft.recipes.command import recipe_config
from voicegraft.tokenizers.base import TokenizerSpec
from voicegraft.tokenizers.codec import Codec
from voicegraft.tokenizers.semantic import SemanticTokenizer


@dataclass(frozen=True)
class TokenizeConfig:
    work: str = "runs/pocket"
    kinds: tuple[str, ...] = ("semantic", "codec")
    device: str = "auto"


def main(argv: list[str] | None = None) -> None:
    single_thread()
    tokenize(recipe_config(TokenizeConfig, __doc__, argv))


@torch.inference_mode()
def tokenize(config: TokenizeConfig) -> None:
    work, device = Path(config.work), pick_device(config.device)
    if "semantic" in config.kinds:
        semantic = SemanticTokenizer.load(work / "semantic").to(device)

        def units(speech: PreparedSpeech, clip: Clip) -> Tensor:
            mel = speech.array(clip, "mel").astype(np.float32).T
            return semantic.encode_mel(torch.from_numpy(mel)[None].to(device))[0]

        _write(work, "semantic", PreparedSpeech(work), semantic.spec, units)
    if "codec" in config.kinds:
        codec = Codec.load(work / "codec").to(device)

        def codes(speech: PreparedSpeech, clip: Clip) -> Tensor:
            return codec.encode(torch.from_numpy(speech.samples(clip))[None].to(device))[0]

        speech = PreparedSpeech(work)
        human = sorted({c.folder.name for c in speech.clips if not c.synthetic})
        _write(work, "codec", PreparedSpeech(work, human), codec.spec, codes)


def _write(
    work: Path, kind: str, speech: PreparedSpeech, spec: TokenizerSpec, encode: Callable[[PreparedSpeech, Clip], Tensor]
) -> None:
    shards: dict[str, list[Clip]] = {}
    for clip in speech.clips:
        shards.setdefault(clip.folder.name, []).append(clip)
    for name, clips in tqdm(shards.items(), desc=f"{kind} tokens", unit="shard"):
        folder = work / "tokens" / kind / name
        if not (folder / "index.json").is_file():
            rows = (encode(speech, clip).T.cpu().numpy() for clip in clips)
            write_ragged(folder, rows, "int16", key=spec.fingerprint)


class Tokens:
    """Token rows of clips: ``tokens(clip)`` is ``[T, K]``; the fingerprint must be the tokenizer's."""

    def __init__(self, work: Path, kind: str, fingerprint: str):
        self.work, self.kind, self.fingerprint = work, kind, fingerprint
        self._shards: dict[str, RaggedArray] = {}

    def __call__(self, clip: Clip) -> np.ndarray:
        name = clip.folder.name
        if name not in self._shards:
            self._shards[name] = RaggedArray(self.work / "tokens" / self.kind / name, key=self.fingerprint)
        return self._shards[name][clip.row]


if __name__ == "__main__":
    main()
