"""Judges whose weights the user brings: Whisper and WavLM through transformers, UTMOS as a TorchScript file.

Nothing is downloaded and no pickle is read: weights must be safetensors in a folder or in the local Hugging Face cache.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from voicegraft.core.artifacts import file_digest, fingerprint
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.runtime import pick_device
from voicegraft.evaluation.judges.base import JUDGE_RATE, judge_samples, silent

_WINDOW = 30 * JUDGE_RATE  # samples that Whisper takes at a time


class WhisperRecognizer:
    """Words by Whisper (arXiv 2212.04356), greedy; a multilingual model is told that the language is English.

    model: folder, or name on the hub of a model that is in the local cache, such as openai/whisper-large-v3.
    """

    def __init__(self, model: str) -> None:
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        self._device = pick_device()
        self._model, self.name = _load(WhisperForConditionalGeneration, "whisper", model, self._device)
        self._processor = _from_pretrained(WhisperProcessor, model)
        self._options: dict[str, Any] = {}
        if getattr(self._model.generation_config, "is_multilingual", False):
            self._options = {"language": "en", "task": "transcribe"}

    def transcribe(self, samples: np.ndarray, sample_rate: int) -> str:
        heard = judge_samples(samples, sample_rate)
        if silent(heard):
            return ""
        # Beyond one window transformers goes on where the timestamps say that the last sentence ended.
        long = {"truncation": False, "padding": "longest"} if len(heard) > _WINDOW else {}
        inputs = self._processor(
            heard, sampling_rate=JUDGE_RATE, return_tensors="pt", return_attention_mask=True, **long
        ).to(self._device)
        with torch.inference_mode():
            ids = self._model.generate(
                inputs.input_features,
                attention_mask=inputs.attention_mask,
                return_timestamps=True if long else None,
                do_sample=False,
                num_beams=1,
                **self._options,
            )
        return str(self._processor.batch_decode(ids, skip_special_tokens=True)[0]).strip()


class WavLmJudge:
    """Voice embeddings by WavLM with an x-vector head (arXiv 2110.13900), such as microsoft/wavlm-base-plus-sv.

    model: folder, or name on the hub of a model that is in the local cache.
    """

    def __init__(self, model: str) -> None:
        from transformers import AutoFeatureExtractor, WavLMForXVector

        self._device = pick_device()
        self._model, self.name = _load(WavLMForXVector, "wavlm-sv", model, self._device)
        self._features = _from_pretrained(AutoFeatureExtractor, model)

    def embed(self, samples: np.ndarray, sample_rate: int) -> np.ndarray | None:
        heard = judge_samples(samples, sample_rate)
        if silent(heard):
            return None
        # The head looks at spans of a few frames; a clip of less than half a second is repeated to fill them.
        heard = np.resize(heard, max(len(heard), JUDGE_RATE // 2))
        inputs = self._features(heard, sampling_rate=JUDGE_RATE, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            embedding = self._model(**inputs).embeddings[0].float().cpu().numpy()
        return embedding / max(float(np.linalg.norm(embedding)), 1e-9)


class UtmosPredictor:
    """Predicted opinion scores by UTMOS (arXiv 2204.02152), from a TorchScript file such as utmos.jit of balacoon/utmos.

    The file takes int16 samples [1, T] at 16 kHz and returns one score. TorchScript is a program: it runs in PyTorch's own
    interpreter and not in Python, but take it only from where you would take a program.
    """

    def __init__(self, model: str) -> None:
        path = Path(model)
        if not path.is_file():
            raise VoicegraftError(
                f"expected the TorchScript file of UTMOS at {model}, found none; "
                "fetch utmos.jit of balacoon/utmos from the Hugging Face hub"
            )
        self._device = pick_device()
        try:
            self._model = torch.jit.load(path, map_location=self._device).eval()
        except RuntimeError as error:
            raise VoicegraftError(f"cannot load {path} as TorchScript ({_first_line(error)})") from error
        self.name = f"utmos {path.name} {file_digest(path)[:16]}"

    def score(self, samples: np.ndarray, sample_rate: int) -> dict[str, float]:
        heard = judge_samples(samples, sample_rate)
        if silent(heard):
            return {}
        pcm = torch.from_numpy((heard * 32767).astype(np.int16))[None].to(self._device)
        try:
            with torch.inference_mode():
                found = self._model(pcm)
            return {"ovrl": float(found)}
        except (RuntimeError, TypeError, ValueError) as error:
            raise VoicegraftError(
                "expected a TorchScript model that turns int16 samples [1, T] at 16 kHz into one score; "
                f"this one fails ({_first_line(error)})"
            ) from error


def _load(cls: Any, kind: str, model: str, device: torch.device) -> tuple[Any, str]:
    """A model, and who judges with it, without the place on this machine: reports are shared, and weights tell models apart."""
    module = _from_pretrained(cls, model, use_safetensors=True).eval()
    label = Path(model).name if Path(model).exists() else model
    return module.to(device), f"{kind} {label} {fingerprint({k: v.cpu() for k, v in module.state_dict().items()})}"


def _from_pretrained(cls: Any, model: str, **options: Any) -> Any:
    try:
        return cls.from_pretrained(model, local_files_only=True, **options)
    except (OSError, ValueError) as error:
        raise VoicegraftError(
            f"cannot load {model} as {cls.__name__} ({_first_line(error)}); expected a folder with config.json and "
            f"model.safetensors, or a model that `hf download {model}` put into the local cache; nothing is downloaded here"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
