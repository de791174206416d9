"""The same made-up utterances, written in every layout that `voicegraft prepare` reads."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

RATE = 24_000  # Hz


@dataclass(frozen=True)
class Spoken:
    id: str
    text: str
    speaker: str
    seconds: float = 1.5
    rate: int = RATE

    @property
    def samples(self) -> np.ndarray:
        """A buzz with silence around it, different for every id: int16 ``[T]``."""
        time = np.arange(round(self.seconds * self.rate)) / self.rate
        base = 100 + sum(map(ord, self.id)) % 97
        tone = sum(np.sin(2 * np.pi * base * h * time) / h for h in range(1, 6))
        edge = np.zeros(self.rate // 4)
        return np.round(np.concatenate([edge, 0.15 * tone, edge]) * 32767).astype(np.int16)


# Ids as LibriSpeech has them: speaker, chapter, number.
SPOKEN = tuple(
    Spoken(f"{speaker}-1-{number:04d}", text, speaker)
    for speaker in ("11", "12")
    for number, text in enumerate(("Now the owl sees.", "We go home now.", "My house is old."))
)


def audio(folder: Path, clip: Spoken, suffix: str = ".wav") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{clip.id}{suffix}"
    soundfile.write(
        path, clip.samples, clip.rate, **({"format": "OGG", "subtype": "OPUS"} if suffix == ".opus" else {})
    )
    return path


def pairs(root: Path, clips: tuple[Spoken, ...] = SPOKEN, suffix: str = ".wav") -> Path:
    for clip in clips:
        audio(root / clip.speaker, clip, suffix).with_suffix(".txt").write_text(f"{clip.text}\n")
    return root


def ljspeech(root: Path) -> Path:
    for clip in SPOKEN:
        audio(root / "wavs", clip)
    lines = (f"{c.id}|not this one|{c.text}" for c in SPOKEN)
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")
    return root


def table(root: Path, delimiter: str = ",") -> Path:
    rows = [delimiter.join(("file_name", "Sentence", "speaker", "id"))]
    for clip in SPOKEN:
        path = audio(root / "clips", clip, ".flac")
        rows.append(delimiter.join((path.name, clip.text, clip.speaker, clip.id)))
    (root / "all.csv").write_text("\n".join(rows) + "\n")
    return root


def manifest(root: Path) -> Path:
    rows = [
        {"audio": str(audio(root / "audio", c).relative_to(root)), "text": c.text, "speaker": c.speaker, "id": c.id}
        for c in SPOKEN
    ]
    (root / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return root


def long_file(root: Path) -> tuple[Path, list[float]]:
    """All utterances in one file, and where each begins in seconds."""
    root.mkdir(parents=True, exist_ok=True)
    pieces = [clip.samples for clip in SPOKEN]
    soundfile.write(root / "book.flac", np.concatenate(pieces), RATE)
    return root / "book.flac", [float(n) / RATE for n in np.cumsum([0, *map(len, pieces[:-1])])]


def nemo(root: Path) -> Path:
    """Stretches of one long file, with absolute paths."""
    path, starts = long_file(root)
    rows = [
        {
            "audio_filepath": str(path.resolve()),
            "text": clip.text,
            "offset": start,
            "duration": len(clip.samples) / RATE,
            "speaker": clip.speaker,
            "id": clip.id,
        }
        for clip, start in zip(SPOKEN, starts, strict=True)
    ]
    (root / "train.json").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return root / "train.json"


def librispeech(root: Path) -> Path:
    for clip in SPOKEN:
        folder = root / clip.speaker / "1"
        audio(folder, clip, ".flac")
        with (folder / f"{clip.speaker}-1.trans.txt").open("a") as file:
            file.write(f"{clip.id} {clip.text.upper()}\n")
    return root


def libritts(root: Path) -> Path:
    for clip in SPOKEN:
        path = audio(root / clip.speaker / "1", clip)
        path.with_suffix(".original.txt").write_text("not this one")
        path.with_suffix(".normalized.txt").write_text(clip.text)
    return root


def lhotse_cuts(root: Path) -> Path:
    """Cuts as lhotse itself writes them, out of one long recording."""
    from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

    path, starts = long_file(root)
    recording = Recording.from_file(path)
    cuts = []
    for clip, start in zip(SPOKEN, starts, strict=True):
        length = len(clip.samples) / RATE
        said = SupervisionSegment(f"s-{clip.id}", recording.id, 0.0, length, text=clip.text, speaker=clip.speaker)
        cuts.append(MonoCut(clip.id, start, length, 0, supervisions=[said], recording=recording))
    CutSet.from_cuts(cuts).to_file(root / "cuts.jsonl.gz")
    return root


def libriheavy(root: Path) -> Path:
    """One cut with all supervisions; the texts lie where LibriHeavy has them."""
    _, starts = long_file(root)
    length = sum(len(clip.samples) for clip in SPOKEN) / RATE
    spoken = [
        {
            "id": clip.id,
            "start": start,
            "duration": len(clip.samples) / RATE,
            "speaker": clip.speaker,
            "custom": {"texts": [clip.text, clip.text.upper()]},
        }
        for clip, start in zip(SPOKEN, starts, strict=True)
    ]
    recording = {"id": "book", "sources": [{"type": "file", "channels": [0], "source": "book.flac"}]}
    cut = {"id": "c", "start": 0, "duration": length, "channel": 0, "supervisions": spoken, "recording": recording}
    with gzip.open(root / "libriheavy_cuts_small.jsonl.gz", "wt") as file:
        file.write(json.dumps(cut) + "\n")
    return root


def dataset(root: Path) -> "object":
    from datasets import Audio, Dataset

    rows = [
        {
            "audio": {"bytes": audio(root / "raw", clip, ".flac").read_bytes(), "path": None},
            "text": clip.text,
            "speaker_id": clip.speaker,
            "id": clip.id,
        }
        for clip in SPOKEN
    ]
    return Dataset.from_list(rows).cast_column("audio", Audio(decode=False))


def saved(root: Path) -> Path:
    dataset(root).save_to_disk(root / "saved")
    return root / "saved"


def saved_splits(root: Path) -> Path:
    from datasets import DatasetDict

    DatasetDict({"train": dataset(root)}).save_to_disk(root / "saved")
    return root / "saved"


def parquet(root: Path) -> Path:
    (root / "data").mkdir(parents=True)
    dataset(root).to_parquet(root / "data" / "train-00000-of-00001.parquet")
    return root / "data"


# name -> (the layout that must be found, who writes it)
LAYOUTS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "pairs": ("pairs", pairs),
    "pairs of flac": ("pairs", lambda root: pairs(root, suffix=".flac")),
    "ljspeech": ("ljspeech", ljspeech),
    "csv": ("csv", table),
    "tsv": ("csv", lambda root: table(root, "\t")),
    "jsonl": ("jsonl", manifest),
    "nemo": ("jsonl", nemo),
    "librispeech": ("librispeech", librispeech),
    "libritts": ("libritts", libritts),
    "lhotse": ("lhotse", lhotse_cuts),
    "libriheavy": ("lhotse", libriheavy),
    "saved": ("huggingface", saved),
    "saved splits": ("huggingface", saved_splits),
    "parquet": ("huggingface", parquet),
}
