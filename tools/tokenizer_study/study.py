"""Chooses speech units by measurement: k-means units against the trained semantic units, on prepared speech.

    python -m tools.tokenizer_study.study work=runs/pocket out=runs/tokenizers

Fits the k-means units on the spot and reads the trained ones from ``work/tokens/semantic``. Linear probes say what the
units tell (phone, pitch, speaker); one small decoder per tokenizer, trained alike, says what can be understood after
codes -> mel -> codec -> vocoder, in the same voice and in another one. The codec's codes, the log-mel and the recordings
stand beside them. Writes ``report.json`` and ``report.md``; ``measures.jsonl`` keeps what is measured, so a stopped run
goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from tools.tokenizer_study.cepstra_units import KMeansConfig, KMeansTokenizer
from tools.tokenizer_study.probes import ProbeConfig
from tools.tokenizer_study.token_measures import (
    Candidate,
    DecoderConfig,
    Judges,
    Material,
    measure_stream,
    score_speech,
    train_decoder,
)
from voicegraft.acoustic.vocoder import Vocoder
from voicegraft.core.artifacts import fingerprint
from voicegraft.core.config import to_dict
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.core.ledger import Ledger
from voicegraft.core.runtime import single_thread
from voicegraft.data.prepared import Clip
from voicegraft.data.tokens import Tokens
from voicegraft.evaluation.judges.base import Recognizer, SpeakerJudge
from voicegraft.evaluation.judges.packages import PocketSphinxRecognizer, ResemblyzerJudge
from voicegraft.evaluation.reports.summary import environment
from voicegraft.evaluation.speech.items import Clip as SpokenClip
from voicegraft.evaluation.speech.items import mean_voices
from voicegraft.recipes.command import recipe_config
from voicegraft.tokenizers.codec import Codec
from voicegraft.tokenizers.loading import open_semantic


@dataclass(frozen=True)
class EvaluateTokenizerConfig:
    work: str = "runs/pocket"
    out: str = "runs/tokenizers"
    clips_per_speaker: int = 300  # training clips; phones and pitch are probed with all recordings besides
    voice: str = "kathleen"  # whose held-back clips are spoken again and recognised
    other_voice: str = "LJ"  # in which they are spoken too
    kmeans: KMeansConfig = field(default_factory=KMeansConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    seed: int = 0


def main(argv: list[str] | None = None) -> None:
    single_thread()
    evaluate_tokenizer(recipe_config(EvaluateTokenizerConfig, __doc__, argv))


def evaluate_tokenizer(
    config: EvaluateTokenizerConfig, recognizer: Recognizer | None = None, speaker_judge: SpeakerJudge | None = None
) -> dict[str, Any] | None:
    """Measures everything and writes the reports; None when a signal stopped a decoder's training early.

    Raises VoicegraftError if a trained part, its tokens, or clips of the two voices are missing.
    """
    work, out = Path(config.work), Path(config.out)
    material = Material(work, config.clips_per_speaker, config.seed)
    clips = {voice: material.held_back_of(voice) for voice in (config.voice, config.other_voice)}
    codec, semantic = Codec.load(work / "codec"), open_semantic(work / "semantic")
    settings = {**to_dict(config), "out": "", "codec": codec.spec.fingerprint}
    kept = Ledger(out / "measures.jsonl", settings)
    kmeans = fit_kmeans(config, material, out / "kmeans")

    def codec_codes(clip: Clip) -> Tensor:
        return codec.encode(torch.from_numpy(material.speech.samples(clip))[None])

    units = [
        Candidate("k-means", lambda clip: kmeans.encode_mel(material.mel(clip))[0].T.numpy(), kmeans.spec),
        Candidate("semantic", Tokens(work, "semantic", semantic.spec.fingerprint), semantic.spec),
    ]
    references = [
        Candidate("codec", lambda clip: codec_codes(clip)[0].T.numpy(), codec.spec),
        Candidate("log-mel, not quantised", lambda clip: pooled(material.mel(clip), codec.config.stride)),
    ]
    prints = {c.name: c.spec.fingerprint for c in (*units, *references) if c.spec}
    decoders = {}
    for unit in units:
        if unit.spec and unit.spec.frame_rate != codec.spec.frame_rate:
            raise VoicegraftError(
                f"{unit.name}: expected the codec's {codec.spec.frame_rate:g} frames per second, got {unit.spec.frame_rate:g}"
            )
        folder = out / f"decoder-{unit.name}-{prints[unit.name]}"
        decoder = train_decoder(config.decoder, material, unit, codec, folder)
        if decoder is None:
            return None
        decoders[unit.name] = decoder
    told = {}
    for candidate in (*units, *references):
        measure = partial(measure_stream, config.probe, material, candidate, codec.spec.frame_rate)
        told[candidate.name] = kept.get(f"{candidate.name}/{prints.get(candidate.name, '')}/probes", measure)

    vocoder = Vocoder.load(work / "vocoder")
    sound = fingerprint(vocoder.state_dict())
    speaker_judge = speaker_judge or ResemblyzerJudge()
    rate = codec.spec.sample_rate
    spoken_clips = {v: [SpokenClip(material.speech.samples(c), rate) for c in some] for v, some in clips.items()}
    judges = Judges(recognizer or PocketSphinxRecognizer(), speaker_judge, mean_voices(spoken_clips, speaker_judge))

    def spoken(codes: Tensor) -> np.ndarray:
        samples, _ = vocoder(codes)
        return samples[0].numpy()

    def again(unit: Candidate, voice: str, clip: Clip) -> np.ndarray:
        number = torch.tensor([material.speech.speakers.index(voice)])
        return spoken(codec.encode_mel(decoders[unit.name](unit.codes(clip), number)))

    makers: dict[tuple[str, str], Callable[[Clip], np.ndarray]] = {
        (unit.name, voice): partial(again, unit, voice) for unit in units for voice in clips
    }
    makers["codec", config.voice] = lambda clip: spoken(codec_codes(clip))
    makers["recordings", config.voice] = material.speech.samples
    scores: dict[str, Any] = {}
    for (name, voice), make in makers.items():
        key = f"{name}/{prints.get(name, '')}/{sound if name in prints else ''}/as {voice}"
        listen = partial(score_speech, make, clips[config.voice], rate, judges)
        scores.setdefault(name, {})["same voice" if voice == config.voice else "other voice"] = kept.get(key, listen)
    names = [*(c.name for c in (*units, *references)), "recordings"]
    report = {
        "about": {
            **settings,
            "fingerprints": {**prints, "vocoder": sound},
            "num_clips": {
                "train": len(material.train),
                "balanced": len(material.balanced),
                "spoken again": len(clips[config.voice]),
                **{f"held back, {name}": len(some) for name, some in material.held_back.items()},
            },
        },
        "environment": environment(),
        "rows": [{"name": name, **told.get(name, {}), "heard": scores.get(name, {})} for name in names],
    }
    table = to_markdown(report)
    write_text(out / "report.json", json.dumps(report, indent=1))
    write_text(out / "report.md", table)
    print(f"{out / 'report.md'}\n\n{table}")
    return report


def pooled(mel: Tensor, stride: int) -> np.ndarray:
    """Log-mel ``[1, M, T]`` -> ``[T // stride, M]``, the mean of every ``stride`` frames."""
    num_frames = mel.shape[-1] // stride
    return mel[0, :, : num_frames * stride].unflatten(-1, (num_frames, stride)).mean(-1).T.numpy()


def fit_kmeans(config: EvaluateTokenizerConfig, material: Material, folder: Path) -> KMeansTokenizer:
    """The k-means units of the training clips, fitted unless they are there."""
    if not (folder / "config.json").is_file():
        tokenizer = KMeansTokenizer(config.kmeans)
        clips = tqdm(material.train, desc="k-means features", unit="clip", mininterval=5)
        tokenizer.fit(torch.cat([tokenizer.features(material.mel(clip))[0] for clip in clips]), config.seed)
        tokenizer.save(folder, {"recipe": "evaluate_tokenizer", "num_clips": len(material.train)})
    return KMeansTokenizer.load(folder)


def _wer(voice: str, row: Mapping[str, Any]) -> str:
    return "{value:.3f} [{low:.3f}, {high:.3f}]".format(**row["heard"][voice]["wer"])


def _cer(voice: str, row: Mapping[str, Any]) -> str:
    return f"{row['heard'][voice]['cer']['value']:.3f}"


def _similarity(voice: str, row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in row["heard"][voice]["similarity"].items())


_RECALL = "{recall:.2f} ({chance:.2f})"
_MEASURES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "units": lambda r: r["name"],
    "frames/s": lambda r: f"{r['frame_rate']:g}",
    "bit/s": lambda r: f"{r['bits_per_sec']:.0f}",
    "bit/s by use": lambda r: f"{r['use']['all']['bits_per_sec']:.0f}",
    "codes used": lambda r: f"{r['use']['all']['used']} of {r['num_codebooks'] * r['vocab_size']}",
    "perplexity": lambda r: f"{r['use']['all']['perplexity']:.0f}",
    "phones, human": lambda r: f"{r['phone_accuracy']['human']:.3f}",
    "phones, synthetic": lambda r: f"{r['phone_accuracy']['synthetic']:.3f}",
    "pitch r, human": lambda r: f"{r['pitch_correlation']['human']:.2f}",
    "pitch r, synthetic": lambda r: f"{r['pitch_correlation']['synthetic']:.2f}",
    "speaker by frame, all": lambda r: _RECALL.format(**r["speaker_by_frame"]),
    "speaker by clip, all": lambda r: _RECALL.format(**r["speaker_by_clip"]["all"]),
    "speaker by clip, human": lambda r: _RECALL.format(**r["speaker_by_clip"]["human"]),
    "speaker by clip, synthetic": lambda r: _RECALL.format(**r["speaker_by_clip"]["synthetic"]),
    **{
        f"{title}, {voice}": partial(show, voice)
        for voice in ("same voice", "other voice")
        for title, show in (("WER [95 %]", _wer), ("CER", _cer), ("similarity", _similarity))
    },
}


def to_markdown(report: Mapping[str, Any]) -> str:
    """A line per measure, a column per stream; chance levels in brackets."""

    def cell(show: Callable[[Mapping[str, Any]], str], row: Mapping[str, Any]) -> str:
        try:
            return show(row)
        except KeyError:  # a measure that this row does not have
            return "-"

    lines = [[title, *(cell(show, row) for row in report["rows"])] for title, show in _MEASURES.items()]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    main()
