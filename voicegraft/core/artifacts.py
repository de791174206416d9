"""Trained things on disk: a folder with `config.json` and `weights.safetensors` that explains itself.

A folder is written beside its final place and renamed when complete, so that a half-written artifact never
bears the name of a whole one. `config.json` holds the digest of the weights: a truncated or altered file does
not load. Nothing is ever unpickled.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from voicegraft.core.config import from_dict, to_dict
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.hub import Loadable

C = TypeVar("C")
M = TypeVar("M", bound="Pretrained")

FORMAT = 1  # raised when an older program could no longer read what this one writes
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "weights.safetensors"
_SCALE = "::scale"  # of a tensor stored as int8; no module's tensor can have such a name
_SHORT_ROW = 64  # values; a scale for each would be bytes wasted


@dataclass(frozen=True, eq=False)
class Artifact(Generic[C]):
    config: C
    tensors: dict[str, Tensor]  # on the CPU; floating ones as float32, integer ones as stored
    provenance: dict[str, Any]  # how it came to be: data, parents' fingerprints, recipe
    fingerprint: str  # 16 hex digits over all tensors


def save_artifact(
    folder: Path | str,
    kind: str,
    config: Any,
    tensors: Mapping[str, Tensor],
    provenance: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Writes an artifact, replacing an older one of that name in one move.

    Args:
        folder: belongs to the artifact alone; refused if it exists and is something else.
        kind: what it is, e.g. "vocoder"; `load_artifact` asks for it by this word.
        config: a config dataclass.
        tensors: any devices and layouts; tensors that share memory are stored separately.
        provenance: JSON values.
        dtype: stores floating tensors in this type, e.g. `torch.bfloat16` for half the bytes. With `torch.int8`
            matrices become integers with a scale per row (or per first index, where rows are short), and the rest
            `torch.float16`; loading turns them back.

    Raises:
        VoicegraftError: the folder is not an artifact, not writable, or the disk is full.
    """
    stored = {}
    for name, tensor in tensors.items():
        kept = tensor.detach().cpu()
        if kept.is_floating_point() and dtype == torch.int8:
            if kept.ndim > 1:
                kept, stored[name + _SCALE] = _to_int8(kept.float())
            else:
                kept = kept.half()
        elif kept.is_floating_point() and dtype is not None:
            kept = kept.to(dtype)
        stored[name] = kept.clone(memory_format=torch.contiguous_format)  # safetensors refuses shared memory
    with atomic_folder(folder) as partial:
        save_file(stored, partial / WEIGHTS_NAME)
        (partial / WEIGHTS_NAME).chmod(0o644)  # safetensors writes for the owner only; a pack is for everybody
        header = {
            "kind": kind,
            "format": FORMAT,
            "config": to_dict(config),
            "provenance": dict(provenance or {}),
            "sha256": file_digest(partial / WEIGHTS_NAME),
        }
        (partial / CONFIG_NAME).write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")


def load_artifact(folder: Path | str, kind: str, config_cls: type[C]) -> Artifact[C]:
    """Reads and verifies an artifact.

    Raises:
        VoicegraftError: the folder is missing, not an artifact, of another kind, written by a newer version,
            incomplete, or its weights do not match their digest.
    """
    folder = _survivor(Path(folder))
    header = _read_header(folder, kind)
    weights = folder / WEIGHTS_NAME
    config = from_dict(config_cls, header["config"], origin=str(folder / CONFIG_NAME))
    try:
        if file_digest(weights) != header["sha256"]:
            raise VoicegraftError(f"{weights} is damaged: its digest differs from {CONFIG_NAME}; get it anew")
        with safe_open(weights, framework="pt", device="cpu") as file:
            # Copies: a tensor that maps the file would crash the process when somebody truncates the file.
            stored = {name: _to_memory(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise VoicegraftError(f"cannot read {weights}: {error}") from error
    tensors = {
        name: tensor * stored[name + _SCALE] if name + _SCALE in stored else tensor
        for name, tensor in stored.items()
        if not name.endswith(_SCALE)
    }
    return Artifact(config, tensors, header["provenance"], fingerprint(tensors))


def artifact_exists(folder: Path | str) -> bool:
    """Whether there is something of that name to load, be it what a process killed while replacing it left."""
    return _survivor(Path(folder)).exists()


def artifact_folder(folder: Path | str) -> Path:
    """Where what bears that name lies, for an artifact with files of its own beside ours."""
    return _survivor(Path(folder))


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """16 hex digits over names, shapes and values.

    Floating values count as float32: a bfloat16 tensor and its widened copy are the same thing.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = _to_memory(tensors[name].detach().cpu()).contiguous()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()[:16]


@contextmanager
def described_by(folder: Path | str) -> Iterator[None]:
    """For what makes a model of an artifact: raises VoicegraftError where configuration and weights do not fit."""
    try:
        yield
    except (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        why = " ".join(str(error).split())
        raise VoicegraftError(
            f"{Path(folder) / CONFIG_NAME} does not describe the weights beside it ({why:.300}); get both anew"
        ) from error


class Pretrained(nn.Module, Loadable):
    """Adds saving as one artifact to a module that is made from its ``config`` alone."""

    KIND: ClassVar[str]  # of the artifact
    CONFIG: ClassVar[type]
    STORED_AS: ClassVar[torch.dtype | None] = None  # of floating tensors; None: as they are
    config: Any

    def save(self, folder: Path, provenance: dict[str, object]) -> None:
        save_artifact(folder, self.KIND, self.config, self.state_dict(), provenance, self.STORED_AS)

    @classmethod
    def load(cls: type[M], folder: Path) -> M:
        """What ``save`` wrote, its weights frozen.

        Raises:
            VoicegraftError: it is not there, damaged, or of another kind.
        """
        artifact: Artifact[Any] = load_artifact(folder, cls.KIND, cls.CONFIG)
        with described_by(folder):
            model: M = cls(artifact.config)
            model.load_state_dict(artifact.tensors)
        return model.eval().requires_grad_(False)

    def save_pretrained(self, folder: str | Path, provenance: dict[str, object] | None = None) -> None:
        """Writes the folder that ``from_pretrained`` reads and ``hf upload`` publishes."""
        self.save(Path(folder), provenance or {})


@contextmanager
def atomic_folder(folder: Path | str, marker: str = CONFIG_NAME) -> Iterator[Path]:
    """Yields an empty folder to fill; it takes the name `folder` if the block ends well, else it vanishes.

    Args:
        folder: the final place; parents are made.
        marker: an existing folder is replaced only if it holds a file of this name or nothing: a wrong path
            must not cost anybody their files.

    Raises:
        VoicegraftError: the existing folder is something else, or cannot be written.
    """
    folder = Path(os.path.abspath(folder))
    partial, old = _sibling(folder, "partial"), _sibling(folder, "old")
    if folder.exists() and not folder.is_dir():
        raise VoicegraftError(f"expected a folder to write at {folder}, found a file; give another path")
    if folder.exists() and not (folder / marker).is_file() and any(folder.iterdir()):
        raise VoicegraftError(f"{folder} holds other files and would be lost; give another path or empty it")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        for path in sorted(partial.rglob("*")):
            _sync(path)
        if folder.exists():
            # No portable call swaps two folders; `_survivor` finds `old` after a kill between the renames.
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        partial.rename(folder)
        _sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VoicegraftError(f"cannot write {folder}: {reason}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def artifact_kind(folder: Path | str, wanted: str) -> str:
    """What the artifact in a folder says it is; ``wanted`` names what was expected, for the errors.

    Raises:
        VoicegraftError: there is no artifact.
    """
    kind: str = _read_json(_survivor(Path(folder)), wanted)["kind"]
    return kind


def read_json(path: Path, cls: type[C], wanted: str, version: int, anew: str) -> C:
    """The JSON file that says what a folder of artifacts is, as ``cls``.

    Args:
        wanted: what was expected, for the errors.
        version: of the file's key ``format`` that is read.
        anew: what to do about an older one.

    Raises:
        VoicegraftError: it is not there, damaged, or of another format.
    """
    if not path.is_file():
        raise VoicegraftError(f"expected a {wanted} in {path.parent}, found no {path.name}; check the path")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VoicegraftError(f"cannot read {path}: {error}") from error
    written = raw.get("format") if isinstance(raw, dict) else None
    if isinstance(written, int) and written != version:  # first of all: a newer format may have keys unknown here
        what = "upgrade voicegraft" if written > version else f"{anew}, or use the older version that made it"
        raise VoicegraftError(f"{path.parent} has format {written}, this version reads {version}; {what}")
    return from_dict(cls, raw, origin=str(path))


def inside_folder(folder: Path, name: str, what: str) -> Path:
    """The path of that name below a folder; raises VoicegraftError if it is not below: a file is not trusted with paths."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise VoicegraftError(f"{folder}: {what} outside the pack ({name}); give its path yourself")
    return path


def _read_json(folder: Path, wanted: str) -> dict[str, Any]:
    path = folder / CONFIG_NAME
    if not path.is_file():
        state = "has no " + CONFIG_NAME if folder.is_dir() else "does not exist"
        raise VoicegraftError(f"expected a {wanted} in {folder}, but it {state}; check the path")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VoicegraftError(f"cannot read {path}: {error}") from error
    if not isinstance(header, dict) or not isinstance(header.get("kind"), str):
        raise VoicegraftError(f"expected a {wanted} in {folder}, but its {CONFIG_NAME} is not ours; check it")
    return header


def _read_header(folder: Path, kind: str) -> dict[str, Any]:
    path = folder / CONFIG_NAME
    header = _read_json(folder, kind)
    if header["kind"] != kind:
        raise VoicegraftError(f"expected a {kind} in {folder}, found a {header['kind']}; check the path")
    if not isinstance(header.get("format"), int) or header["format"] > FORMAT:
        raise VoicegraftError(
            f"{folder} has format {header.get('format')}, this version reads {FORMAT}; upgrade voicegraft"
        )
    missing = [key for key in ("config", "provenance", "sha256") if key not in header]
    if missing:
        raise VoicegraftError(f"{path} is incomplete: {', '.join(missing)} missing; get it anew")
    return header


def _survivor(folder: Path) -> Path:
    """The folder, or the one that a process killed in the middle of replacing it left aside."""
    old = _sibling(folder, "old")
    return old if old.is_dir() and not folder.exists() else folder


def _sibling(folder: Path, role: str) -> Path:
    folder = Path(os.path.abspath(folder))
    return folder.parent / f".{folder.name}.{role}"


def _to_int8(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Integers of the same shape, and scales that broadcast to it: their product is the tensor, nearly."""
    shared = (-1,) if tensor.shape[-1] >= _SHORT_ROW else tuple(range(1, tensor.ndim))
    scale = (tensor.abs().amax(shared, keepdim=True) / 127).clamp(min=torch.finfo(torch.float32).tiny)
    return (tensor / scale).round().to(torch.int8), scale


def _to_memory(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32, copy=True) if tensor.is_floating_point() else tensor.clone()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Makes a file's bytes, or a folder's names, survive a power cut; a full disk shows up here at last."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
