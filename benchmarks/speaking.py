"""Speed of speaking, as ratios measured side by side in one run.

    python -m benchmarks.speaking [pack=DIR] [out=FILE.json]

Prints the real-time factor and the time to first audio, what share of the time each model takes, and how one decoding
step with the speech expert compares with a step of stock ``generate`` on the same backbone.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.harness import report
from voicegraft.core.runtime import single_thread
from voicegraft.inference.engine import sentence_tokens
from voicegraft.inference.speaker import Speaker
from voicegraft.inference.stream import acoustic_frames, render
from voicegraft.recipes.command import recipe_config
from voicegraft.text.units import words_of

SENTENCES = (
    "The river ran slowly past the old mill.",
    "She opened the window, and the morning air came in.",
    "Nobody knew where the captain had put the map.",
    "Please bring two cups of tea and a little sugar.",
    "Is there a train to the coast before noon?",
    "Every path through the forest leads back to the lake.",
)


@dataclass(frozen=True)
class BenchConfig:
    pack: str = ""  # empty: the pocket pack
    out: str = ""  # JSON file; empty: standard output only
    rounds: int = 3  # times through the sentences


def main(argv: list[str] | None = None) -> None:
    single_thread()
    config = recipe_config(BenchConfig, __doc__, argv)
    report(bench(Speaker.load(config.pack or None), config.rounds), config.out)


def bench(speaker: Speaker, rounds: int) -> dict[str, Any]:
    speaker.say(SENTENCES[0])  # what only the first call costs is not measured
    spoken = [speaker.say(text, seed=seed) for seed in range(rounds) for text in SENTENCES]
    stages = [_stages(speaker, text, seed) for seed in range(rounds) for text in SENTENCES]
    totals = {name: sum(s[name] for s in stages) for name in ("language model", "acoustic LM", "vocoder")}
    whole = sum(totals.values())
    ours, stock = _steps(speaker, rounds)
    return {
        "threads": torch.get_num_threads(),
        "rtf": round(sum(s.wall_sec for s in spoken) / sum(s.duration_sec for s in spoken), 3),
        "first_audio_ms_median": round(1000 * statistics.median(s.first_audio_sec for s in spoken)),
        "first_audio_ms_worst": round(1000 * max(s.first_audio_sec for s in spoken)),
        "share_of_time": {name: round(value / whole, 3) for name, value in totals.items()},
        "step_ms": {
            "with the speech expert": round(1000 * ours, 2),
            "stock generate, backbone": round(1000 * stock, 2),
        },
        "step_ratio_to_stock_generate": round(ours / stock, 3),
    }


def _stages(speaker: Speaker, text: str, seed: int) -> dict[str, float]:
    """Wall seconds of each model, run one after the other."""
    pack, options, voice = speaker.pack, speaker.pack.header.options, speaker.default_voice
    random = np.random.default_rng(seed)
    started = time.perf_counter()
    tokens = list(sentence_tokens(pack.lm, text, voice, options, random))
    spoken = time.perf_counter()
    frames = list(acoustic_frames(pack.acoustic, tokens, pack.acoustic.named_voice(voice), options, random))
    coded = time.perf_counter()
    for _ in render(pack.vocoder, frames, options.first_chunk_frames, options.chunk_frames):
        pass
    ended = time.perf_counter()
    return {"language model": spoken - started, "acoustic LM": coded - spoken, "vocoder": ended - coded}


def _steps(speaker: Speaker, rounds: int) -> tuple[float, float]:
    """Seconds per decoded position: ours over whole sentences, and stock ``generate`` on the bare backbone."""
    pack, voice = speaker.pack, speaker.default_voice
    num_ours, num_stock, ours, stock = 0, 0, 0.0, 0.0
    for seed in range(rounds):
        for text in SENTENCES:
            tokens = sentence_tokens(pack.lm, text, voice, pack.header.options, np.random.default_rng(seed))
            started = time.perf_counter()
            num_codes = len(list(tokens))
            ours += time.perf_counter() - started
            # A letter and a unit begin with a position each, and a phone and a code take one more.
            words = words_of(text)
            num_phones = len(tokens.units) - 1 - len(words)
            num_ours += sum(len(w.letters) for w in words) + num_phones + len(tokens.units) + num_codes
        ids = torch.tensor([pack.lm.text_ids(SENTENCES[seed % len(SENTENCES)])])
        with pack.lm.mole.gated("text"), torch.inference_mode():
            started = time.perf_counter()
            generate: Any = pack.lm.backbone.generate
            out = generate(ids, max_new_tokens=200, min_new_tokens=200, do_sample=False)
            stock += time.perf_counter() - started
            num_stock += out.shape[1] - ids.shape[1]
    return ours / num_ours, stock / num_stock


if __name__ == "__main__":
    main()
