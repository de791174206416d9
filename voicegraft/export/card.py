"""The card of a voice pack: what it is made of, for people and, in its front matter, for the Hugging Face Hub.

It says what the files say; missing metadata is "unknown". The words are in ``card.md.jinja``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from voicegraft.core.config import to_dict
from voicegraft.core.hub import HUB, is_hub_name
from voicegraft.core.parts import PART, part_named
from voicegraft.inference.pack import PARTS, SHARED, PackHeader

UNKNOWN = "unknown"
_TEMPLATE = Path(__file__).with_name("card.md.jinja")
_LICENCE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]*")  # as the Hub writes them: apache-2.0
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_SCORES = {"wer": "words wrong", "cer": "letters wrong", "mos": "predicted opinion score (1 to 5)"}  # of a report


def pack_card(
    header: PackHeader,
    folder: Path,
    licence: str = "",
    language: Sequence[str] = (),
    base_model: str = "",
    datasets: Sequence[str] = (),
    use: str = "",
    notes: str = "",
) -> str:
    """The text of the pack's card.

    Args:
        folder: the pack, or the work folder that it is gathered from; the scores of ``evaluation/report.json`` in it are told.
        licence: of the weights, as the Hub names it (apache-2.0) or in words; empty where it is not known.
        language: codes such as "en".
        base_model: the backbone's name on the Hub, where the header does not tell it.
        datasets: names of corpora on the Hub.
        use: what it is and how it is used, in Markdown, where the card lies beside something else that was made of the pack.
        notes: what no file says, in Markdown: its data and their licences, its limits.
    """
    rows = _read(folder / "expert" / "rows" / "config.json").get("config", {})
    base = base_model or _base_model(header)
    scores = _scores(folder)
    measured = [(name, title) for name, title in _SCORES.items() if any(name in row for row in scores)]
    known = licence.lower()
    named = not licence or _LICENCE_ID.fullmatch(known)
    data = ModelCardData(
        license=(known or None) if named else "other",
        license_name=None if named else licence,
        language=list(language) or None,
        base_model=base or None,
        pipeline_tag="text-to-speech",
        library_name="voicegraft",
        tags=["text-to-speech", "speech", "lora", "voicegraft"],
        datasets=list(datasets) or None,
        metrics=[name for name, _ in measured] or None,
        model_name=header.name if scores else None,
        eval_results=[_result(row, name, title) for row in scores for name, title in measured if name in row] or None,
    )
    card = ModelCard.from_template(
        data,
        template_path=str(_TEMPLATE),
        header=header,
        rows={"vocabulary": {}, **rows},
        base=base,
        licence=licence,
        language=language,
        use=use,
        notes=notes.strip(),
        has_backbone=(folder / "backbone").is_dir() or is_hub_name(header.backbone),
        has_report=(folder / "EVALUATION.md").is_file(),
        parts=_parts(folder, header, rows),
        origin={**dict.fromkeys(("recipe", "commit", "corpora", "hours")), **header.provenance},
        options=to_dict(header.options),
        scores=scores,
        measures=measured,
        worded=_worded,
    )
    return str(card)


def _parts(folder: Path, header: PackHeader, rows: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name in PARTS:
        place = folder / name
        if not place.is_dir() or (name in SHARED and header.shares):
            continue
        config = _read(place / "config.json")
        what, mark = config.get("kind", UNKNOWN), config.get("sha256", UNKNOWN)
        if name == "backbone":
            what, mark = config.get("model_type", UNKNOWN), rows.get("backbone", UNKNOWN)
        elif name == "expert":
            adapter = _read(place / "speech" / "adapter_config.json")
            what = f"LoRA of rank {adapter.get('r', UNKNOWN)}, speech embedding and head"
            mark = _read(place / "speech" / "expert.json").get("sha256", UNKNOWN)
        # What a run left to be resumed from does not go into the pack.
        weights = (p for p in place.rglob("*.safetensors") if "resume" not in p.relative_to(place).parts)
        yield name, str(what), f"{sum(p.stat().st_size for p in weights) / 1e6:.2f}", f"`{str(mark)[:16]}`"


def _base_model(header: PackHeader) -> str:
    """The backbone's name on the Hub; empty if it is not known to have one."""
    backbone = header.backbone
    if backbone.startswith(PART):
        backbone = HUB + part_named(backbone.removeprefix(PART)).hub
    if backbone.startswith(HUB):
        return backbone.removeprefix(HUB).partition("@")[0]
    named = str(header.provenance.get("backbone", "")).partition("@")[0]
    return named if _HUB_NAME.fullmatch(named) else ""


def _scores(folder: Path) -> list[dict[str, Any]]:
    """What the evaluation measured of the speech of each voice: the voice, and estimates with their 95 % intervals."""
    found = _read(folder / "evaluation" / "report.json").get("summary", [])
    return [{"voice": row["voice"], **row["estimates"]} for row in found if row["stage"] == "speech"]


def _result(row: Mapping[str, Any], measure: str, title: str) -> EvalResult:
    """For the Hub."""
    return EvalResult(
        task_type="text-to-speech",
        dataset_type="prompts",
        dataset_name=f"evaluation prompts, voice {row['voice']}",
        metric_type=measure,
        metric_name=title,
        metric_value=round(row[measure]["value"], 4),
    )


def _worded(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_worded, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_worded(v)}" for k, v in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found
