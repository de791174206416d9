"""A sketch of a backbone's weights: knows the same model in another precision, where a fingerprint knows the very file.

Quantisation rounds the matrices and leaves the vectors (norms, biases) as they are. So of both some values are kept: those of
the vectors must agree to the precision of half-precision floats, those of the matrices nearly. A model that was tuned as a
whole has other vectors; one with a light LoRA merged into it passes, and an expert speaks on it as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from transformers import PreTrainedModel

from voicegraft.core.config import from_dict, to_dict
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.fusion.backbone import backbone_tensors

SKETCH = "backbone-sketch.json"  # beside an expert
NUM_TENSORS, NUM_VALUES = 48, 16  # of each kind, and of each tensor
ROUNDED = 0.01  # relative difference that half precision and the sketch's own digits explain; bfloat16 keeps 8 bits
LIKE = 0.97  # correlation of matrices with themselves in four bits, at least


@dataclass(frozen=True)
class Sketch:
    """Tensor name -> shape, and values at places that its shape decides."""

    shapes: dict[str, tuple[int, ...]]
    vectors: dict[str, tuple[float, ...]]
    matrices: dict[str, tuple[float, ...]]

    @staticmethod
    def of(backbone: PreTrainedModel) -> Sketch:
        own = backbone_tensors(backbone)
        vectors, matrices = _some(own, 1), _some(own, 2)
        shapes = {name: tuple(tensor.shape) for name, tensor in {**vectors, **matrices}.items()}
        return Sketch(shapes, _values(vectors), _values(matrices))

    def problem(self, other: Sketch) -> str:
        """Why another model's sketch is not of this model; "" if it is."""
        if self.shapes != other.shapes:
            return "its layers have other names or shapes"
        for name, values in self.vectors.items():
            mine, theirs = np.array(values), np.array(other.vectors[name])
            if np.abs(mine - theirs).max(initial=0.0) > ROUNDED * max(np.abs(mine).max(initial=0.0), 1e-6):
                return f"its {name} differs, which no quantisation changes"
        mine, theirs = (np.concatenate([_unit(each.matrices[n]) for n in self.matrices]) for each in (self, other))
        like = float(mine @ theirs / max(1e-12, np.linalg.norm(mine) * np.linalg.norm(theirs)))
        return "" if like >= LIKE else f"its matrices are like these to {like:.2f} only"

    def save(self, folder: Path) -> None:
        write_text(folder / SKETCH, json.dumps(to_dict(self)))

    @staticmethod
    def load(folder: Path) -> Sketch | None:
        """None where there is none.

        Raises:
            VoicegraftError: it is damaged.
        """
        path = folder / SKETCH
        if not path.is_file():
            return None
        try:
            return from_dict(Sketch, json.loads(path.read_text(encoding="utf-8")), origin=str(path))
        except ValueError as error:
            raise VoicegraftError(f"cannot read {path}: {error}; get it anew") from error


def _some(tensors: Mapping[str, torch.Tensor], ndim: int) -> dict[str, torch.Tensor]:
    names = sorted(name for name, tensor in tensors.items() if tensor.ndim == ndim and tensor.is_floating_point())
    chosen = np.linspace(0, len(names) - 1, min(NUM_TENSORS, len(names))).astype(int)
    return {names[i]: tensors[names[i]] for i in chosen}


def _values(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[float, ...]]:
    def of(tensor: torch.Tensor) -> tuple[float, ...]:
        flat = tensor.flatten()
        places = torch.linspace(0, len(flat) - 1, NUM_VALUES, dtype=torch.float64).long()
        return tuple(
            float(f"{value:.4g}") for value in cast(list[float], flat[places.to(flat.device)].float().tolist())
        )

    return {name: of(tensor) for name, tensor in tensors.items()}


def _unit(values: tuple[float, ...]) -> np.ndarray:
    return np.array(values) / max(1e-12, float(np.abs(values).mean()))
