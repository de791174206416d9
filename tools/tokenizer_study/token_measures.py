"""What a stream of speech codes is worth: linear probes of its frames and clips, and how it sounds when spoken again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from tools.tokenizer_study import probes
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.prepared import Clip, PreparedSpeech, frame_classes, newest_alignments
from voicegraft.evaluation.judges.base import Recognizer, SpeakerJudge
from voicegraft.evaluation.metrics import rates as metrics
from voicegraft.text.units import SILENCE
from voicegraft.tokenizers.base import TokenizerSpec
from voicegraft.tokenizers.codec import Codec
from voicegraft.tokenizers.semantic import ConvBlock
from voicegraft.train.config import LoopConfig
from voicegraft.train.loop import run


@dataclass(frozen=True)
class Candidate:
    """A stream to measure: codes ``[T, K]`` of a tokenizer, or features ``[T, D]`` (no spec)."""

    name: str
    stream: Callable[[Clip], np.ndarray]
    spec: TokenizerSpec | None = None

    def codes(self, clip: Clip) -> Tensor:
        """The first codebook's codes ``[1, T]``."""
        return torch.from_numpy(self.stream(clip)[:, 0].astype(np.int64))[None]


class Material:
    """The clips that the measures share: all recordings, equally many of every voice, what is held back."""

    def __init__(self, work: Path, clips_per_speaker: int, seed: int):
        self.speech = PreparedSpeech(work, aligned=newest_alignments(work))
        draw = np.random.default_rng(seed)
        self.balanced: list[Clip] = []
        for speaker in self.speech.speakers:
            clips = [c for c in self.speech.select("train") if c.utterance.speaker == speaker]
            self.balanced += [clips[i] for i in draw.permutation(len(clips))[:clips_per_speaker]]
        self.human = self.speech.select("train", synthetic=False)
        self.train = self.human + [c for c in self.balanced if c.utterance.synthetic]
        kinds = {"human": False, "synthetic": True}
        held_back = {name: self.speech.select("val", synthetic) for name, synthetic in kinds.items()}
        self.held_back = {name: clips for name, clips in held_back.items() if clips}

    def held_back_of(self, speaker: str) -> list[Clip]:
        """Held-back recordings of a speaker. Raises VoicegraftError if there are none."""
        clips = [c for c in self.held_back.get("human", []) if c.utterance.speaker == speaker]
        if not clips:
            voices = sorted({c.utterance.speaker for c in self.held_back.get("human", [])})
            raise VoicegraftError(f"no recording of {speaker!r} is held back, only of {', '.join(voices) or 'nobody'}")
        return clips

    def mel(self, clip: Clip) -> Tensor:
        """Log-mel ``[1, M, T]``."""
        return torch.from_numpy(self.speech.array(clip, "mel").astype(np.float32).T)[None]

    def speaker(self, clip: Clip) -> int:
        return self.speech.speakers.index(clip.utterance.speaker)


def measure_stream(
    config: probes.ProbeConfig, material: Material, candidate: Candidate, frame_rate: float
) -> dict[str, Any]:
    """Rates and use of codes, and what linear probes read: phone, pitch, the speaker by frame and by clip."""
    spec, speech, context = candidate.spec, material.speech, config.context
    vocab_size = spec.vocab_size if spec else 0
    groups = {**material.held_back, "all": [c for clips in material.held_back.values() for c in clips]}
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
        probe = probes.train_probe(train, vocab_size, num_classes, config)
        told = {}
        for name, group in groups.items():
            test = probes.join_frames(((of(c), targets(c)) for c in group), context)
            told[name] = probes.predict(probe, test, context), test.targets
        return told

    def vectors(clips: Sequence[Clip]) -> np.ndarray:
        return np.stack([probes.clip_vector(of(c), vocab_size) for c in clips])

    def clip_recall(clips: Sequence[Clip]) -> dict[str, float]:
        """How well the clips tell their speaker, among the speakers of all of them."""
        known = {material.speaker(c) for c in clips}
        train = [c for c in material.balanced if material.speaker(c) in known]
        guessed = probes.clip_classes(vectors(train), [material.speaker(c) for c in train], vectors(clips))
        truth = torch.tensor([material.speaker(c) for c in clips])
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


def train_decoder(
    config: DecoderConfig, material: Material, candidate: Candidate, codec: Codec, folder: Path
) -> MelDecoder | None:
    """Trains the candidate's decoder on the recordings, or goes on with it; None when a signal stopped it."""
    c, spec, stride, hop = config, candidate.spec, codec.config.stride, codec.spec.hop
    assert spec is not None
    edge = stride * -(-codec.config.mel.num_fft // (2 * hop))  # mel frames that a crop's ends disturb
    torch.manual_seed(c.loop.seed)
    model = MelDecoder(c, spec.vocab_size, len(material.speech.speakers), codec.config.mel.num_mels, stride)
    clips = [m for m in material.human if len(material.speech.array(m, "pitch")) >= c.crop_frames]
    if not clips:
        raise VoicegraftError(f"no recording lasts {c.crop_frames} frames: lower decoder.crop_frames")
    rows = [candidate.codes(clip)[0] for clip in clips]

    def batch_at(number: int) -> tuple[Tensor, Tensor, Tensor]:
        draw = np.random.default_rng([c.loop.seed, number])
        codes, samples, speakers = [], [], []
        for i in draw.integers(len(clips), size=c.batch_size):
            start = int(draw.integers(len(rows[i]) - c.crop_frames + 1))
            codes.append(rows[i][start : start + c.crop_frames])
            samples.append(material.speech.samples(clips[i])[start * hop : (start + c.crop_frames) * hop])
            speakers.append(material.speaker(clips[i]))
        return torch.stack(codes), torch.from_numpy(np.stack(samples)), torch.tensor(speakers)

    def losses(
        models: Mapping[str, nn.Module], batch: tuple[Tensor, Tensor, Tensor], step: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        made, real = models["decoder"](batch[0], batch[2]), codec.log_mel(batch[1])
        return {"decoder": (made - real).abs()[..., edge:-edge].mean()}, {}

    @torch.no_grad()
    def validate(_: int) -> dict[str, float]:
        errors = []
        for clip in material.held_back["human"]:
            made = model(candidate.codes(clip), torch.tensor([material.speaker(clip)]))
            real = codec.log_mel(torch.from_numpy(material.speech.samples(clip))[None])
            errors.append(float((made - real[..., : made.shape[-1]]).abs().mean()))
        return {"mel": float(np.mean(errors))}

    finished = run(c.loop, folder, {"decoder": model}, batch_at, losses, validate)
    return model.requires_grad_(False) if finished else None


@dataclass(frozen=True)
class Judges:
    """What judges the sound, and the mean embedding [D] of every voice that a clip is compared with."""

    recognizer: Recognizer
    speaker: SpeakerJudge
    voices: Mapping[str, np.ndarray]


def score_speech(
    make: Callable[[Clip], np.ndarray], clips: Sequence[Clip], sample_rate: int, judges: Judges
) -> dict[str, Any]:
    """Word and character error rates of the clips as ``make`` speaks them, what was recognised, and whose voice it is like."""
    recognised, words, chars, alike = {}, [], [], []
    for clip in tqdm(clips, desc="listening", unit="clip", mininterval=5):
        samples, text = make(clip), clip.utterance.text
        recognised[clip.utterance.id] = judges.recognizer.transcribe(samples, sample_rate)
        words.append(metrics.word_edits(text, recognised[clip.utterance.id]))
        chars.append(metrics.char_edits(text, recognised[clip.utterance.id]))
        voice = judges.speaker.embed(samples, sample_rate)
        if voice is not None:
            alike.append([metrics.cosine(voice, mean) for mean in judges.voices.values()])
    return {
        "wer": asdict(metrics.bootstrap_ratio([e.errors for e in words], [e.length for e in words])),
        "cer": asdict(metrics.bootstrap_ratio([e.errors for e in chars], [e.length for e in chars])),
        "similarity": dict(zip(judges.voices, np.mean(alike, 0).tolist(), strict=True)) if alike else {},
        "heard": recognised,
    }
