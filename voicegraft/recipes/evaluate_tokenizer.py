"""Chooses speech units by measurement: k-means units against the trained semantic units, on prepared speech.

    python -m voicegraft.recipes.evaluate_tokenizer work=runs/pocket out=runs/tokenizers

Fits the k-means units on the spot and reads the trained ones from ``work/tokens/semantic``. Linear probes
say what the units tell (phone, pitch, speaker); one small decoder per tokenizer, trained alike, says what can
be understood after codes -> mel -> codec -> vocoder. The codec's codes, the log-mel and the recordings stand
beside them. Writes ``report.json`` and ``report.md``; ``measures.json`` keeps what is measured, so a stopped
run goes on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from voicegraft.acoustic.vocoder import Vocoder
from voicegraft.core.artifacts import fingerprint
from voicegraft.core.config import to_dict
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.runtime import single_thread
from voicegraft.data.speech import SILENCE, Clip, PreparedSpeech, frame_classes
from voicegraft.evaluation import metrics, probes
from voicegraft.evaluation.judges import PocketSphinxRecognizer, Recognizer
from voicegraft.evaluation.report import environment
from voicegraft.recipes.command import recipe_config
from voicegraft.recipes.tokenize import Tokens
from voicegraft.tokenizers.base import TokenizerSpec
from voicegraft.tokenizers.codec import Codec
from voicegraft.tokenizers.kmeans import KMeansConfig, KMeansTokenizer
from voicegraft.tokenizers.semantic import ConvBlock, SemanticTokenizer
from voicegraft.train.loop import LoopConfig, run


@dataclass(frozen=True)
class DecoderConfig:
    """The small decoder, codes -> log-mel, that is trained alike for every tokenizer."""

    width: int = 192  # channels
    kernel: int = 5  # frames
    dilations: tuple[int, ...] = (1, 2, 4, 1)  # one residual block each
    batch_size: int = 16  # crops
    crop_frames: int = 100  # token frames per crop
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=800, lr=2e-3, warmup_steps=30, validate_every=400)
    )


@dataclass(frozen=True)
class EvaluateTokenizerConfig:
    work: str = "runs/pocket"
    out: str = "runs/tokenizers"
    clips_per_speaker: int = 300  # training clips; phones and pitch are probed with all recordings besides
    judged: str = "kathleen"  # speaker whose held-back clips are spoken again and recognised
    kmeans: KMeansConfig = field(default_factory=KMeansConfig)
    probe: probes.ProbeConfig = field(default_factory=probes.ProbeConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    seed: int = 0


@dataclass(frozen=True)
class Candidate:
    """A stream to measure: codes ``[T, K]`` of a tokenizer, or features ``[T, D]`` (no spec)."""

    name: str
    stream: Callable[[Clip], np.ndarray]
    spec: TokenizerSpec | None = None


class Material:
    """The clips that the measures share: all recordings, equally many of every voice, what is held back."""

    def __init__(self, config: EvaluateTokenizerConfig):
        work = Path(config.work)
        rounds = sorted((work / "alignments").glob("round*/done"))
        self.speech = PreparedSpeech(work, aligned=rounds[-1].parent if rounds else None)
        draw = np.random.default_rng(config.seed)
        self.balanced: list[Clip] = []
        for speaker in self.speech.speakers:
            clips = [c for c in self.speech.select("train") if c.utterance.speaker == speaker]
            self.balanced += [clips[i] for i in draw.permutation(len(clips))[: config.clips_per_speaker]]
        self.human = self.speech.select("train", synthetic=False)
        self.train = self.human + [c for c in self.balanced if c.synthetic]
        kinds = {"human": False, "synthetic": True}
        held = {name: self.speech.select("val", synthetic) for name, synthetic in kinds.items()}
        self.held = {name: clips for name, clips in held.items() if clips}
        self.judged = [c for c in self.held.get("human", []) if c.utterance.speaker == config.judged]
        if not self.judged:
            raise VoicegraftError(
                f"expected held-back clips of the speaker {config.judged!r}, found none; speakers: "
                + ", ".join(self.speech.speakers)
            )

    def mel(self, clip: Clip) -> Tensor:
        """Log-mel ``[1, M, T]``."""
        return torch.from_numpy(self.speech.array(clip, "mel").astype(np.float32).T)[None]

    def speaker(self, clip: Clip) -> int:
        return self.speech.speakers.index(clip.utterance.speaker)


class MelDecoder(nn.Module):
    """Codes ``[B, T]``, speakers ``[B]`` -> log-mels ``[B, M, T * stride]``; sees both sides of a frame."""

    def __init__(self, config: DecoderConfig, vocab_size: int, num_speakers: int, num_mels: int, stride: int):
        super().__init__()
        self.num_mels, self.stride = num_mels, stride
        self.codes = nn.Embedding(vocab_size, config.width)
        self.speakers = nn.Embedding(num_speakers, config.width)
        self.blocks = nn.Sequential(*(ConvBlock(config.width, config.kernel, d) for d in config.dilations))
        self.head = nn.Conv1d(config.width, num_mels * stride, 1)

    def forward(self, codes: Tensor, speakers: Tensor) -> Tensor:
        h = self.head(self.blocks((self.codes(codes) + self.speakers(speakers)[:, None]).mT)).float()
        return h.unflatten(1, (self.num_mels, self.stride)).transpose(2, 3).flatten(2) * 3.0 - 5.0


class Kept:
    """Measures on disk by name; the file belongs to one configuration."""

    def __init__(self, path: Path, identity: Any):
        self.path = path
        self.parts: dict[str, Any] = {}
        self.identity = json.loads(json.dumps(identity))
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["identity"] != self.identity:
                raise VoicegraftError(f"{path} is of other settings: choose another out, or delete that file")
            self.parts = found["parts"]

    def get(self, name: str, measure: Callable[[], Any]) -> Any:
        if name not in self.parts:
            self.parts[name] = measure()
            write_text(self.path, json.dumps({"identity": self.identity, "parts": self.parts}, indent=1))
        return self.parts[name]


def main(argv: list[str] | None = None) -> None:
    single_thread()
    evaluate_tokenizer(recipe_config(EvaluateTokenizerConfig, __doc__, argv))


def evaluate_tokenizer(config: EvaluateTokenizerConfig, recognizer: Recognizer | None = None) -> dict[str, Any] | None:
    """Measures everything and writes the reports; None when a signal stopped a decoder's training early.

    Raises VoicegraftError if a trained part, its tokens, or clips of the judged speaker are missing.
    """
    work, out = Path(config.work), Path(config.out)
    material = Material(config)
    codec, semantic = Codec.load(work / "codec"), SemanticTokenizer.load(work / "semantic")
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
    for unit in units:
        if unit.spec and unit.spec.hop != codec.spec.hop:
            raise VoicegraftError(f"{unit.name}: expected a hop of {codec.spec.hop}, got {unit.spec.hop}")
    identity = {**to_dict(config), "out": "", "codec": codec.spec.fingerprint}
    kept = Kept(out / "measures.json", identity)
    decoders = {}
    for candidate in units:
        decoder = train_decoder(config, material, candidate, codec, out)
        if decoder is None:
            return None
        decoders[candidate.name] = decoder
    told = {}
    for candidate in (*units, *references):
        key = f"{candidate.name}/{candidate.spec.fingerprint if candidate.spec else ''}/probes"
        measure = partial(measure_stream, config, material, candidate, codec.spec.frame_rate)
        told[candidate.name] = kept.get(key, measure)
    vocoder = Vocoder.load(work / "vocoder")
    recognizer = recognizer or PocketSphinxRecognizer()

    def spoken(codes: Tensor) -> np.ndarray:
        samples, _ = vocoder(codes)
        return samples[0].numpy()

    def again(unit: Candidate, clip: Clip) -> np.ndarray:
        codes = torch.from_numpy(unit.stream(clip).astype(np.int64))[None, :, 0]
        mel = decoders[unit.name](codes, torch.tensor([material.speaker(clip)]))
        return spoken(codec.encode_mel(mel))

    makers: dict[str, Callable[[Clip], np.ndarray]] = {unit.name: partial(again, unit) for unit in units}
    makers |= {"codec": lambda clip: spoken(codec_codes(clip)), "recordings": material.speech.samples}
    prints = {c.name: c.spec.fingerprint for c in (*units, *references) if c.spec}
    sound = fingerprint(vocoder.state_dict())
    heard = {}
    for name, make in makers.items():
        key = f"{name}/{prints.get(name, '')}/{sound if name in prints else ''}/words"
        heard[name] = kept.get(key, partial(hear, make, material.judged, codec.spec.sample_rate, recognizer))
    names = [*(c.name for c in (*units, *references)), "recordings"]
    report = {
        "about": {**identity, "fingerprints": {**prints, "vocoder": sound}, "num_clips": {
            "train": len(material.train), "balanced": len(material.balanced), "judged": len(material.judged),
            **{f"held back, {name}": len(clips) for name, clips in material.held.items()}}},
        "environment": environment(),
        "rows": [{"name": name, **told.get(name, {}), **heard.get(name, {})} for name in names],
    }  # fmt: skip
    write_text(out / "report.json", json.dumps(report, indent=1))
    write_text(out / "report.md", to_markdown(report))
    print(f"{out / 'report.md'}\n\n{to_markdown(report)}")
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


def measure_stream(
    config: EvaluateTokenizerConfig, material: Material, candidate: Candidate, frame_rate: float
) -> dict[str, Any]:
    """Rates and use of codes, and what linear probes read: phone, pitch, the speaker by frame and by clip."""
    spec, speech, context = candidate.spec, material.speech, config.probe.context
    vocab_size = spec.vocab_size if spec else 0
    groups = {**material.held, "all": [c for held in material.held.values() for c in held]}
    small = np.int16 if spec else np.float16
    clips = [*material.train, *groups["all"]]
    bar = tqdm(clips, desc=f"{candidate.name}: streams", unit="clip", mininterval=5)
    stream = {(clip.folder, clip.row): candidate.stream(clip).astype(small) for clip in bar}

    def of(clip: Clip) -> np.ndarray:
        return stream[clip.folder, clip.row]

    def phones(clip: Clip) -> np.ndarray:
        return frame_classes(clip.utterance, len(of(clip)), frame_rate)

    def pitch(clip: Clip) -> np.ndarray:
        return speech.array(clip, "pitch").astype(np.float32)

    def speaker(clip: Clip) -> np.ndarray:
        return np.full(len(of(clip)), material.speaker(clip))

    def read(
        clips: Sequence[Clip], targets: Callable[[Clip], np.ndarray], num_classes: int | None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Trains a frame probe on the clips; what it predicts for each held-back group, and what is true."""
        train = probes.join_frames(((of(c), targets(c)) for c in clips), context)
        probe = probes.train_probe(train, vocab_size, num_classes, config.probe)
        told = {}
        for name, held in groups.items():
            test = probes.join_frames(((of(c), targets(c)) for c in held), context)
            told[name] = probes.predict(probe, test, context), test.targets
        return told

    def vectors(clips: Sequence[Clip]) -> np.ndarray:
        return np.stack([probes.clip_vector(of(c), vocab_size) for c in clips])

    def clip_recall(held: Sequence[Clip]) -> dict[str, float]:
        """How well the clips tell their speaker, among the speakers of all of them."""
        known = {material.speaker(c) for c in held}
        train = [c for c in material.balanced if material.speaker(c) in known]
        guessed = probes.clip_classes(vectors(train), [material.speaker(c) for c in train], vectors(held))
        truth = torch.tensor([material.speaker(c) for c in held])
        return {"recall": probes.mean_recall(torch.from_numpy(guessed), truth), "chance": 1 / len(known)}

    measures: dict[str, Any] = {}
    if spec:
        use = {name: probes.code_use(map(of, clips), vocab_size) for name, clips in groups.items()}
        rate = spec.frame_rate
        measures = {
            "frame_rate": rate,
            "num_codebooks": spec.num_codebooks,
            "vocab_size": spec.vocab_size,
            "bits_per_sec": rate * spec.num_codebooks * float(np.log2(spec.vocab_size)),
            "use": {n: {**asdict(u), "bits_per_sec": u.bits_per_frame * rate} for n, u in use.items()},
        }
    told = read(material.train, phones, SILENCE + 1)
    melody = read(material.train, pitch, None)
    who = read(material.balanced, speaker, len(speech.speakers))["all"]
    return {
        **measures,
        "phone_accuracy": {n: probes.accuracy(*pair) for n, pair in told.items()},
        "phone_accuracy_in_speech": {  # silence is easy
            n: probes.accuracy(out[true != SILENCE], true[true != SILENCE]) for n, (out, true) in told.items()
        },
        "pitch_correlation": {n: probes.correlation(*pair) for n, pair in melody.items()},
        "speaker_by_frame": {"recall": probes.mean_recall(*who), "chance": 1 / len(speech.speakers)},
        "speaker_by_clip": {n: clip_recall(clips) for n, clips in groups.items()},
    }


def train_decoder(
    config: EvaluateTokenizerConfig, material: Material, candidate: Candidate, codec: Codec, out: Path
) -> MelDecoder | None:
    """Trains the candidate's decoder on the recordings, or goes on with it; None when a signal stopped it."""
    c, spec, stride, hop = config.decoder, candidate.spec, codec.config.stride, codec.spec.hop
    assert spec is not None
    edge = stride * -(-codec.config.mel.num_fft // (2 * hop))  # mel frames that a crop's ends disturb
    torch.manual_seed(config.seed)
    model = MelDecoder(c, spec.vocab_size, len(material.speech.speakers), codec.config.mel.num_mels, stride)
    clips = [m for m in material.human if len(material.speech.array(m, "pitch")) >= c.crop_frames]
    if not clips:
        raise VoicegraftError(f"no recording lasts {c.crop_frames} frames: lower decoder.crop_frames")
    rows = [candidate.stream(clip)[:, 0].astype(np.int64) for clip in clips]

    def batch_at(number: int) -> tuple[Tensor, Tensor, Tensor]:
        draw = np.random.default_rng([config.seed, number])
        codes, samples, speakers = [], [], []
        for i in draw.integers(len(clips), size=c.batch_size):
            start = int(draw.integers(len(rows[i]) - c.crop_frames + 1))
            codes.append(rows[i][start : start + c.crop_frames])
            samples.append(material.speech.samples(clips[i])[start * hop : (start + c.crop_frames) * hop])
            speakers.append(material.speaker(clips[i]))
        return torch.from_numpy(np.stack(codes)), torch.from_numpy(np.stack(samples)), torch.tensor(speakers)

    def losses(
        players: Mapping[str, nn.Module], batch: tuple[Tensor, Tensor, Tensor], step: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        made, real = players["decoder"](batch[0], batch[2]), codec.log_mel(batch[1])
        return {"decoder": (made - real).abs()[..., edge:-edge].mean()}, {}

    @torch.no_grad()
    def validate(_: int) -> dict[str, float]:
        errors = []
        for clip in material.judged:
            codes = torch.from_numpy(candidate.stream(clip).astype(np.int64))[None, :, 0]
            made = model(codes, torch.tensor([material.speaker(clip)]))
            real = codec.log_mel(torch.from_numpy(material.speech.samples(clip))[None])
            errors.append(float((made - real[..., : made.shape[-1]]).abs().mean()))
        return {"mel": float(np.mean(errors))}

    folder = out / f"decoder-{candidate.name}-{spec.fingerprint}"
    finished = run(c.loop, folder, {"decoder": model}, batch_at, losses, validate)
    return model.requires_grad_(False) if finished else None


def hear(
    make: Callable[[Clip], np.ndarray], clips: Sequence[Clip], sample_rate: int, recognizer: Recognizer
) -> dict[str, Any]:
    """Word and character error rates over clips as ``make`` speaks them, and what was heard."""
    rows = []
    for clip in tqdm(clips, desc="listening", unit="clip", mininterval=5):
        text, heard = clip.utterance.text, recognizer.transcribe(make(clip), sample_rate)
        rows.append((heard, metrics.word_edits(text, heard), metrics.char_edits(text, heard)))
    heard_texts, words, chars = zip(*rows, strict=True)
    return {
        "wer": asdict(metrics.bootstrap_ratio([e.errors for e in words], [e.length for e in words])),
        "cer": asdict(metrics.bootstrap_ratio([e.errors for e in chars], [e.length for e in chars])),
        "heard": {clip.utterance.id: text for clip, text in zip(clips, heard_texts, strict=True)},
    }


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
    "WER [95 %]": lambda r: "{value:.3f} [{low:.3f}, {high:.3f}]".format(**r["wer"]),
    "CER": lambda r: f"{r['cer']['value']:.3f}",
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


def write_text(path: Path, text: str) -> None:
    """Replaces the file in one move."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text + "\n" * (not text.endswith("\n")), encoding="utf-8")
    os.replace(part, path)


if __name__ == "__main__":
    main()
