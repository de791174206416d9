import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tools.tokenizer_study.cepstra_units import KMeansConfig, KMeansTokenizer
from tools.tokenizer_study.probes import ProbeConfig
from tools.tokenizer_study.study import DecoderConfig, EvaluateTokenizerConfig, evaluate_tokenizer
from voicegraft.acoustic.vocoder import Vocoder, VocoderConfig
from voicegraft.audio.mel import LogMel, MelConfig
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.manifest import Utterance, write_manifest
from voicegraft.data.shards import write_ragged
from voicegraft.recipes.tokenize import TokenizeConfig, tokenize
from voicegraft.text.units import PHONES
from voicegraft.tokenizers.codec import Codec, CodecConfig
from voicegraft.tokenizers.semantic import SemanticConfig, SemanticTokenizer
from voicegraft.train.config import LoopConfig

RATE, HOP = 24_000, 240
VOICES = {"ann": 1.0, "bob": 1.25, "flite-rms": 0.8, "flite-slt": 1.1}  # of their formants
NUM_KINDS = 4  # phones in use


def speech(speaker: str, number: int) -> tuple[Utterance, np.ndarray, np.ndarray]:
    """Two tones per phone of 100 ms, one shifted per speaker. Samples ``[T]``, pitch ``[T // 480]``."""
    draw = np.random.default_rng([list(VOICES).index(speaker), number])
    kinds = draw.integers(NUM_KINDS, size=8)
    time = np.arange(RATE // 10) / RATE
    low = [np.sin(2 * np.pi * 400 * (1 + k) * VOICES[speaker] * time) for k in kinds]
    high = [np.sin(2 * np.pi * 3000 * (1 + k / 3) * time) for k in kinds]
    samples = 0.2 * np.concatenate(low + high).reshape(2, -1).sum(0)
    samples += 0.002 * draw.normal(size=len(samples))
    utterance = Utterance(
        id=f"{speaker}-{number}",
        audio="",
        text="one two three",
        speaker=speaker,
        split="val" if number >= 9 else "train",
        duration_sec=len(samples) / RATE,
        units=tuple(PHONES[k] for k in kinds),
        unit_ends_sec=tuple((i + 1) / 10 for i in range(len(kinds))),
        synthetic=speaker.startswith("flite-"),
    )
    return utterance, samples.astype(np.float32), np.repeat(kinds, 5) / 4 - 0.5


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared speech and trained parts, all tiny; the parts know nothing, but they fit together."""
    work = tmp_path_factory.mktemp("work")
    torch.manual_seed(0)
    mel = MelConfig()
    for folder, speakers in {"people": ("ann", "bob"), "flite-000": ("flite-rms", "flite-slt")}.items():
        clips = [speech(s, n) for s in speakers for n in range(12)]
        base = work / "speech" / folder
        write_manifest(base, [u for u, *_ in clips])
        write_ragged(base / "audio", [x * 32767 for _, x, _ in clips], "int16", key=f"pcm-{RATE}")
        mels = [LogMel(mel)(torch.from_numpy(x)).T.numpy() for _, x, _ in clips]
        write_ragged(base / "mel", mels, "float16", key=mel.key)
        write_ragged(base / "pitch", [p for *_, p in clips], "float16", key=f"pitch-{RATE}-{2 * HOP}")
    semantic = SemanticTokenizer(SemanticConfig(width=8, dilations=(1,), levels=(3, 3)))
    semantic.half().float().save(work / "semantic", {})
    small = replace(CodecConfig(), width=8, dilations=(1,), latent_width=4, num_codebooks=2, codebook_size=8)
    codec = Codec(small)
    codec.rvq.codebooks.normal_()
    codec.half().float().save(work / "codec", {})
    books = {"num_codebooks": 2, "codebook_size": 8, "code_width": 4}
    vocoder = Vocoder(VocoderConfig(**books, width=8, slow_dilations=(1,), fast_dilations=(1,)))
    vocoder.save(work / "vocoder", {})
    tokenize(TokenizeConfig(work=str(work), kinds=("semantic",), device="cpu"))
    return work


class VoiceJudge:
    """Knows every voice by the mean height of its samples."""

    def embed(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        return np.asarray([1.0, float(np.abs(samples).mean())], np.float32)


class FakeRecognizer:
    """Recognises the text of a clip whose samples it knows, and nothing else."""

    def __init__(self, known: list[np.ndarray]):
        self.known, self.num_calls = known, 0

    def transcribe(self, samples: np.ndarray, sample_rate: int) -> str:
        self.num_calls += 1
        return "one two three" if any(np.array_equal(samples, k) for k in self.known) else ""


def config(work: Path, out: Path) -> EvaluateTokenizerConfig:
    loop = LoopConfig(steps=2, warmup_steps=1, precision="no", validate_every=2)
    return EvaluateTokenizerConfig(
        work=str(work),
        out=str(out),
        clips_per_speaker=9,
        voice="ann",
        other_voice="bob",
        kmeans=KMeansConfig(vocab_size=24),
        probe=ProbeConfig(context=1, steps=60, batch_size=128),
        decoder=DecoderConfig(width=8, dilations=(1,), batch_size=2, crop_frames=20, loop=loop),
    )


def test_the_report_finds_what_was_injected_and_is_not_measured_twice(work: Path, tmp_path: Path) -> None:
    pcm = [(speech("ann", n)[1] * 32767).astype(np.int16) / np.float32(32768) for n in range(9, 12)]
    recognizer = FakeRecognizer(pcm)
    settings = config(work, tmp_path / "out")
    report = evaluate_tokenizer(settings, recognizer, VoiceJudge())
    assert report is not None
    rows = {row["name"]: row for row in report["rows"]}
    assert list(rows) == ["k-means", "semantic", "codec", "log-mel, not quantised", "recordings"]

    kmeans, reference = rows["k-means"], rows["log-mel, not quantised"]
    assert kmeans["frame_rate"] == 50
    assert kmeans["bits_per_sec"] == pytest.approx(50 * np.log2(24))
    assert 0 < kmeans["use"]["all"]["bits_per_sec"] <= kmeans["bits_per_sec"]
    assert rows["codec"]["bits_per_sec"] == pytest.approx(50 * 2 * 3)
    # The tones are the phones: units that follow the spectrum tell them, and the pitch that goes with them.
    assert kmeans["phone_accuracy"]["human"] > 0.8
    assert kmeans["pitch_correlation"]["synthetic"] > 0.8
    assert reference["speaker_by_clip"]["all"] == {"recall": 1.0, "chance": 0.25}
    assert reference["speaker_by_clip"]["human"]["chance"] == 0.5
    assert not reference["heard"] and "use" not in reference
    scores = {(name, voice): told for name, row in rows.items() for voice, told in row["heard"].items()}
    assert scores["recordings", "same voice"]["wer"]["value"] == 0.0
    assert scores["k-means", "same voice"]["wer"]["value"] == scores["codec", "same voice"]["cer"]["value"] == 1.0
    assert set(scores["semantic", "other voice"]["heard"]) == {"ann-9", "ann-10", "ann-11"}
    assert set(scores["semantic", "other voice"]["similarity"]) == {"ann", "bob"}
    assert scores["recordings", "same voice"]["similarity"]["ann"] == pytest.approx(1.0, abs=1e-4)
    assert ("codec", "other voice") not in scores  # the codec keeps the voice it hears
    table = (tmp_path / "out" / "report.md").read_text().splitlines()
    assert len({line.count("|") for line in table}) == 1
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report

    num_calls = recognizer.num_calls
    assert evaluate_tokenizer(settings, recognizer, VoiceJudge()) == report
    assert recognizer.num_calls == num_calls
    with pytest.raises(VoicegraftError, match="other settings"):
        evaluate_tokenizer(replace(settings, clips_per_speaker=5), recognizer, VoiceJudge())


def test_a_speaker_without_held_back_clips_is_refused(work: Path, tmp_path: Path) -> None:
    with pytest.raises(VoicegraftError, match=r"'eve'.*ann, bob"):
        evaluate_tokenizer(replace(config(work, tmp_path), voice="eve"), FakeRecognizer([]), VoiceJudge())


def fitted(seed: int = 0) -> tuple[KMeansTokenizer, torch.Tensor]:
    """Units of four made-up voices, and a log-mel ``[1, M, T]``."""
    tokenizer = KMeansTokenizer(KMeansConfig(vocab_size=16))
    mels = [LogMel(MelConfig())(torch.from_numpy(speech(v, n)[1]))[None] for v in VOICES for n in range(3)]
    tokenizer.fit(torch.cat([tokenizer.features(mel)[0] for mel in mels]), seed)
    return tokenizer, mels[0]


def test_kmeans_units_survive_saving_with_equal_tokens_and_fingerprint(tmp_path: Path) -> None:
    tokenizer, mel = fitted()
    tokenizer.save(tmp_path / "kmeans", {})
    loaded = KMeansTokenizer.load(tmp_path / "kmeans")
    assert loaded.spec == tokenizer.spec
    assert (loaded.spec.frame_rate, loaded.spec.vocab_size, loaded.spec.num_codebooks) == (50, 16, 1)
    codes = tokenizer.encode_mel(mel)
    assert codes.shape == (1, 1, mel.shape[-1] // 2)
    assert len(codes.unique()) > 4
    assert torch.equal(loaded.encode_mel(mel), codes)
    samples = torch.from_numpy(speech("ann", 0)[1])[None]
    assert torch.equal(loaded.encode(samples), codes)
    assert loaded.encode_mel(mel[..., :1]).shape == (1, 1, 0)


def test_kmeans_codes_are_the_nearest_centroids_and_ignore_gain() -> None:
    tokenizer, mel = fitted()
    features = tokenizer.features(mel)[0]
    nearest = torch.cdist(features, tokenizer.centroids).argmin(-1)
    assert torch.equal(tokenizer.encode_mel(mel)[0, 0], nearest)
    louder = tokenizer.encode_mel(mel + np.log(2.0))
    assert (louder == tokenizer.encode_mel(mel)).float().mean() > 0.98


def test_kmeans_fits_alike_with_the_same_seed_and_says_when_there_is_too_little() -> None:
    assert fitted(3)[0].fingerprint() == fitted(3)[0].fingerprint() != fitted(4)[0].fingerprint()
    with pytest.raises(VoicegraftError, match="16 clusters, got 5"):
        KMeansTokenizer(KMeansConfig(vocab_size=16)).fit(torch.zeros(5, 39))
