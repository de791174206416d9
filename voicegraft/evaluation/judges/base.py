"""Outside models that judge speech, behind small protocols. Nothing is imported before it is used."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from voicegraft.audio.level import normalise_level
from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.metrics.rates import normalize_transcript

JUDGE_RATE = 16_000  # Hz; all judges were trained at this rate
JUDGE_RMS = 10 ** (-26 / 20)  # active speech level, -26 dB below full scale as in ITU-T P.800 listening tests
MOS_KEYS = ("ovrl", "sig", "bak", "p808")
_MOS_WINDOW = int(9.01 * JUDGE_RATE)  # samples that DNSMOS rates at a time
_MIN_SAMPLES = JUDGE_RATE // 10  # a tenth of a second; less holds nothing to judge


class Recognizer(Protocol):
    def transcribe(self, samples: np.ndarray, sample_rate: int) -> str:
        """Samples [T] -> the words heard, "" for none."""


class ChoiceRecognizer(Protocol):
    def choose(self, samples: np.ndarray, sample_rate: int, options: Sequence[str]) -> str:
        """Samples [T] -> the one of the options that was heard, "" for none."""


class MosPredictor(Protocol):
    def score(self, samples: np.ndarray, sample_rate: int) -> dict[str, float]:
        """Samples [T] -> predicted opinion scores (1 to 5): ovrl and maybe more of MOS_KEYS; empty without sound."""


class SpeakerJudge(Protocol):
    def embed(self, samples: np.ndarray, sample_rate: int) -> np.ndarray | None:
        """Samples [T] -> unit vector [D] of the voice, None if there is no voice."""


class FaultJudge(Protocol):
    def faults(self, samples: np.ndarray, sample_rate: int, text: str) -> tuple[str, ...]:
        """Samples [T] and the words they should say -> kinds of faults, such as repeat, skip, truncation, noise."""


@dataclass(frozen=True)
class Judges:
    """One judge of each kind, loaded once for a whole evaluation."""

    recognizer: Recognizer
    mos: MosPredictor
    speaker: SpeakerJudge
    faults: FaultJudge | None = None
    # How a benchmark brings texts into one form; None: normalize_transcript, with digits as they are spoken.
    normalize: Callable[[str], str] | None = None
    names: Mapping[str, str] = field(default_factory=dict)  # kind of judge -> who it is, for reports


def load_judges(
    recognizer: str = "pocketsphinx", mos: str = "dnsmos", speaker: str = "resemblyzer", faults: str = "pocketsphinx"
) -> Judges:
    """The judges of these names; with weights from outside as KIND:MODEL, a folder, a file or a name on the hub.

    recognizer: pocketsphinx or whisper:MODEL. mos: dnsmos or utmos:FILE. speaker: resemblyzer or wavlm-sv:MODEL.
    faults: pocketsphinx or none.
    Raises VoicegraftError for another name, for weights that are not on this machine (nothing is downloaded), and
    for a missing package, which it names.
    """
    from voicegraft.evaluation.judges.transformer import UtmosPredictor, WavLmJudge, WhisperRecognizer

    kinds: dict[str, tuple[str, Callable[[], Any], str, Callable[[str], Any]]] = {
        "recognizer": ("pocketsphinx", PocketSphinxRecognizer, "whisper", WhisperRecognizer),
        "mos": ("dnsmos", DnsMosPredictor, "utmos", UtmosPredictor),
        "speaker": ("resemblyzer", ResemblyzerJudge, "wavlm-sv", WavLmJudge),
    }
    judges: dict[str, Any] = {}
    names = {}
    for role, asked in (("recognizer", recognizer), ("mos", mos), ("speaker", speaker)):
        own, load_own, brought, load_brought = kinds[role]
        kind, _, model = asked.partition(":")
        if asked == own:
            judges[role], names[role] = load_own(), own
        elif kind == brought and model:
            judges[role] = load_brought(model)
            names[role] = judges[role].name
        else:
            raise VoicegraftError(f"there is no {role} judge {asked!r}; choose {own} or {brought}:MODEL")
    if faults not in ("pocketsphinx", "none"):
        raise VoicegraftError(f"there is no judge of faults {faults!r}; choose pocketsphinx or none")
    if faults != "none":
        from voicegraft.evaluation.judges.faults import FaultJudge as PocketSphinxFaultJudge

        judges["faults"], names["faults"] = PocketSphinxFaultJudge(), faults
    return Judges(**judges, names=names)


def judge_samples(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """What every judge hears: float32 [T'] at JUDGE_RATE and the level JUDGE_RMS.

    One level for all, because DNSMOS hears background noise grow with it: turning the same recordings up from
    a peak of 0.2 to 0.9 cost 0.35 points.
    """
    samples = np.asarray(samples, np.float32)
    if sample_rate != JUDGE_RATE and len(samples):
        samples = _need("soxr").resample(samples, sample_rate, JUDGE_RATE)
    return normalise_level(samples, JUDGE_RATE, rms=JUDGE_RMS)


def silent(samples: np.ndarray) -> bool:
    """Whether there is nothing to judge in samples [T] at JUDGE_RATE."""
    return len(samples) < _MIN_SAMPLES or not np.any(samples)


class PocketSphinxRecognizer:
    """Words by pocketsphinx with its stock US-English model, the whole utterance in one go."""

    def __init__(self) -> None:
        self._decoder = _need("pocketsphinx").Decoder(samprate=JUDGE_RATE, loglevel="FATAL")

    def transcribe(self, samples: np.ndarray, sample_rate: int) -> str:
        return self._hear(judge_samples(samples, sample_rate))

    def _hear(self, heard: np.ndarray) -> str:
        if silent(heard):
            return ""
        # The decoder adapts to what it heard; forgetting that makes a verdict independent of the order.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        pcm = (heard * 32767).astype(np.int16).tobytes()
        self._decoder.process_raw(pcm, no_search=False, full_utt=True)
        self._decoder.end_utt()
        best = self._decoder.hyp()
        return best.hypstr if best is not None else ""


class PocketSphinxChooser(PocketSphinxRecognizer):
    """The same recogniser, told what may be said: one of some phrases, by a grammar."""

    def __init__(self) -> None:
        super().__init__()
        self._grammars: dict[tuple[str, ...], dict[str, str]] = {}  # options -> their normal form -> option

    def choose(self, samples: np.ndarray, sample_rate: int, options: Sequence[str]) -> str:
        """Words that the recogniser's lexicon lacks cannot be heard; an option that holds one is left out."""
        key = tuple(options)
        if key not in self._grammars:
            normal = {normalize_transcript(option): option for option in options}
            known = {n: o for n, o in normal.items() if all(self._decoder.lookup_word(w) for w in n.split())}
            if not known:
                raise VoicegraftError(f"the recogniser knows the words of none of these options: {', '.join(options)}")
            self._decoder.add_jsgf_string(
                f"answers{len(self._grammars)}",
                f"#JSGF V1.0; grammar answers; public <answer> = {' | '.join(known)};",
            )
            self._grammars[key] = known
        self._decoder.activate_search(f"answers{list(self._grammars).index(key)}")
        # A word alone, cut close, is hard to hear: a quarter of a second of silence on both sides.
        padded = np.pad(judge_samples(samples, sample_rate), JUDGE_RATE // 4)
        return self._grammars[key].get(self._hear(padded), "")


class DnsMosPredictor:
    """Predicted opinion scores by DNSMOS P.835 and P.808 (arXiv 2110.01763, 2010.15258)."""

    def __init__(self) -> None:
        onnxruntime, dnsmos = _need("onnxruntime"), _need("speechmos.dnsmos", "speechmos")
        folder = Path(str(dnsmos.__file__)).parent / "dnsmos_models"
        primary, p808 = str(folder / "sig_bak_ovr.onnx"), str(folder / "model_v8.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._model = dnsmos.DNSMOS(primary, p808)
        # The package gives no say in threads; its two sessions are exchanged for single-threaded ones.
        self._model.onnx_sess = onnxruntime.InferenceSession(primary, options)
        self._model.p808_onnx_sess = onnxruntime.InferenceSession(p808, options)

    def score(self, samples: np.ndarray, sample_rate: int) -> dict[str, float]:
        heard = judge_samples(samples, sample_rate)
        if silent(heard):
            return {}
        # The package doubles a short clip until it is long enough and averages over windows that all hold
        # the same. Repeating it to one window costs a third and moved the mean of a voice by 0.02 at most.
        if len(heard) < _MOS_WINDOW:
            heard = np.resize(heard, _MOS_WINDOW)
        scores = self._model(heard, JUDGE_RATE, False)
        return {key: float(scores[f"{key}_mos"]) for key in MOS_KEYS}


class ResemblyzerJudge:
    """Voice embeddings by resemblyzer (GE2E, arXiv 1710.10467), silences trimmed by its own preprocessing."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            # Its voice activity detector reads its own version through pkg_resources, and scipy moved a name.
            warnings.simplefilter("ignore")
            resemblyzer = _need("resemblyzer")
        self._preprocess = resemblyzer.preprocess_wav
        self._encoder = resemblyzer.VoiceEncoder(device="cpu", verbose=False)

    def embed(self, samples: np.ndarray, sample_rate: int) -> np.ndarray | None:
        import torch

        heard = judge_samples(samples, sample_rate)
        if silent(heard):
            return None
        voiced = self._preprocess(heard)
        if len(voiced) < _MIN_SAMPLES:
            return None
        num_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return self._encoder.embed_utterance(voiced)
        finally:
            torch.set_num_threads(num_threads)


def _need(module: str, package: str | None = None) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        raise VoicegraftError(
            f"judging speech needs the package {package or module}, which cannot be imported ({error}); "
            "run: pip install voicegraft[evaluate]"
        ) from error
