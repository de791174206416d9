"""Judges that come as Python packages with their weights; each is imported when it is made."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from voicegraft.evaluation.judges.base import JUDGE_RATE, MIN_SAMPLES, MOS_KEYS, judge_samples, silent
from voicegraft.evaluation.packages import need

_MOS_WINDOW = int(9.01 * JUDGE_RATE)  # samples that DNSMOS rates at a time


class PocketSphinxRecognizer:
    """Words by pocketsphinx with its stock US-English model, the whole utterance in one go."""

    name = "pocketsphinx"

    def __init__(self) -> None:
        self._decoder = need("pocketsphinx").Decoder(samprate=JUDGE_RATE, loglevel="FATAL")

    def transcribe(self, samples: np.ndarray, sample_rate: int) -> str:
        return self._recognize(judge_samples(samples, sample_rate))

    def _recognize(self, samples: np.ndarray) -> str:
        if silent(samples):
            return ""
        # The decoder adapts to what it heard; forgetting that makes a verdict independent of the order.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        pcm = (samples * 32767).astype(np.int16).tobytes()
        self._decoder.process_raw(pcm, no_search=False, full_utt=True)
        self._decoder.end_utt()
        best = self._decoder.hyp()
        return best.hypstr if best is not None else ""


class DnsMosPredictor:
    """Predicted opinion scores by DNSMOS P.835 and P.808 (arXiv 2110.01763, 2010.15258)."""

    def __init__(self) -> None:
        onnxruntime, dnsmos = need("onnxruntime"), need("speechmos.dnsmos", "speechmos")
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
            resemblyzer = need("resemblyzer")
        self._preprocess = resemblyzer.preprocess_wav
        self._encoder = resemblyzer.VoiceEncoder(device="cpu", verbose=False)

    def embed(self, samples: np.ndarray, sample_rate: int) -> np.ndarray | None:
        import torch

        heard = judge_samples(samples, sample_rate)
        if silent(heard):
            return None
        voiced = self._preprocess(heard)
        if len(voiced) < MIN_SAMPLES:
            return None
        num_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return self._encoder.embed_utterance(voiced)
        finally:
            torch.set_num_threads(num_threads)
