"""The card of a voice pack: what it is made of, for people and, in its front matter, for the Hugging Face Hub.

It says what the files say. What nobody wrote down is said to be unknown and not made up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from voicegraft.core.config import to_dict
from voicegraft.core.hub import HUB
from voicegraft.inference.pack import PARTS, PackHeader

UNKNOWN = "unknown"
_LICENCE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]*")  # as the Hub writes them: apache-2.0
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_SCORES = {"wer": "words wrong", "cer": "letters wrong", "mos": "predicted opinion score (1 to 5)"}  # of a report


@dataclass(frozen=True)
class _Part:
    name: str
    what: str
    num_bytes: int  # of its weights
    fingerprint: str


def pack_card(
    header: PackHeader,
    folder: Path,
    licence: str = "",
    language: Sequence[str] = (),
    base_model: str = "",
    datasets: Sequence[str] = (),
    use: str = "",
) -> str:
    """The text of the pack's card.

    Args:
        folder: the pack, or the work folder that it is gathered from; the scores of ``evaluation/report.json`` in it are told.
        licence: of the weights, as the Hub names it (apache-2.0) or in words; empty where it is not known.
        language: codes such as "en".
        base_model: the backbone's name on the Hub, where the header does not tell it.
        datasets: names of corpora on the Hub.
        use: what it is and how it is used, in Markdown, where the card lies beside something else that was made of the pack.
    """
    rows = _config(folder / "expert" / "rows").get("config", {})
    base = base_model or _base_model(header)
    scores = _scores(folder)
    front = {
        **_licence(licence),
        "language": list(language),
        "base_model": base,
        "pipeline_tag": "text-to-speech",
        "library_name": "voicegraft",
        "tags": ["text-to-speech", "speech", "lora", "voicegraft"],
        "datasets": list(datasets),
        "metrics": _measured(scores),
    }
    told = {key: value for key, value in front.items() if value}
    options = [(k, _plain(v)) for k, v in to_dict(header.options).items()]
    blocks = [
        f"---\n{yaml.safe_dump(told, sort_keys=False, allow_unicode=True)}---",
        f"# {header.name}",
        use or _use(header, folder),
        "\n".join(f"- **{name}**: {value}" for name, value in _facts(header, rows, base, licence, language)),
        "## Parts of the pack\n\n" + _table(("part", "what", "MB", "fingerprint"), _part_rows(folder, rows)),
        "## Where it comes from\n\n" + _table(("", ""), [(k, _plain(v)) for k, v in _origin(header)]),
        "## Options of speaking\n\n" + _table(("option", "value"), options),
        "## Scores\n\n" + _score_table(folder, scores),
    ]
    return "\n\n".join(blocks) + "\n"


def _use(header: PackHeader, folder: Path) -> str:
    inside = (folder / "backbone").is_dir() or header.backbone.startswith(HUB)
    command = 'voicegraft speak "Hello." --pack DIR' + ("" if inside else " --backbone LLM")
    where = "DIR is a copy of this folder" + ("." if inside else ", LLM the text LLM that the pack was made for.")
    return (
        "A voice pack of voicegraft: a text LLM with a speech expert, and what turns its tokens into sound.\n\n"
        f"```\npip install voicegraft\n{command}\n```\n\n{where}"
    )


def _facts(
    header: PackHeader, rows: Mapping[str, Any], base: str, licence: str, language: Sequence[str]
) -> Iterator[tuple[str, str]]:
    vocabulary = rows.get("vocabulary", {})
    yield "Voices", ", ".join(vocabulary.get("voices", [])) or UNKNOWN
    yield "Default voice", header.default_voice or "the first"
    yield "Language", ", ".join(language) or UNKNOWN
    yield "Licence", licence or UNKNOWN
    yield "Backbone", base or _plain(header.provenance.get("backbone", UNKNOWN))
    yield "Fingerprint of the backbone", rows.get("backbone", UNKNOWN)
    yield (
        "Layout of the speech expert",
        f"{rows.get('layout', 'guided')}, {rows.get('frames_per_step', 1)} frame(s) a step",
    )
    yield (
        "Semantic tokens",
        f"{vocabulary.get('num_codes', UNKNOWN)} codes of tokenizer {rows.get('semantic', UNKNOWN)}",
    )


def _origin(header: PackHeader) -> Iterator[tuple[str, object]]:
    for key in ("recipe", "commit", "corpora", "hours"):
        yield key, header.provenance.get(key) or UNKNOWN
    yield from ((k, v) for k, v in header.provenance.items() if k not in ("recipe", "commit", "corpora", "hours"))


def _part_rows(folder: Path, rows: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name in PARTS:
        place = folder / name
        if not place.is_dir():
            continue
        config = _config(place)
        what, mark = config.get("kind", UNKNOWN), str(config.get("sha256", UNKNOWN))[:16]
        if name == "backbone":
            what, mark = config.get("model_type", UNKNOWN), rows.get("backbone", UNKNOWN)
        elif name == "expert":
            adapter = _read(place / "speech" / "adapter_config.json")
            what = f"LoRA of rank {adapter.get('r', UNKNOWN)}, and rows"
            mark = str(_read(place / "speech" / "expert.json").get("sha256", UNKNOWN))[:16]
        # What a run left to be resumed from does not go into the pack.
        weights = (p for p in place.rglob("*.safetensors") if "resume" not in p.relative_to(place).parts)
        yield name, str(what), f"{sum(p.stat().st_size for p in weights) / 1e6:.2f}", f"`{mark}`"


def _base_model(header: PackHeader) -> str:
    """The backbone's name on the Hub; empty if it is not known to have one."""
    if header.backbone.startswith(HUB):
        return header.backbone.removeprefix(HUB).partition("@")[0]
    named = str(header.provenance.get("backbone", ""))
    return named.partition("@")[0] if _HUB_NAME.fullmatch(named.partition("@")[0]) else ""


def _licence(licence: str) -> dict[str, str]:
    known = licence.lower()
    if not licence or _LICENCE_ID.fullmatch(known):
        return {"license": known}
    return {"license": "other", "license_name": licence}


def _scores(folder: Path) -> list[dict[str, Any]]:
    """What the evaluation measured of the speech of each voice: the voice, and estimates with their 95 % intervals."""
    found = _read(folder / "evaluation" / "report.json").get("summary", [])
    return [{"voice": row["voice"], **row["estimates"]} for row in found if row["stage"] == "speech"]


def _measured(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    return [name for name in _SCORES if any(name in row for row in scores)]


def _score_table(folder: Path, scores: Sequence[Mapping[str, Any]]) -> str:
    if not scores:
        return "See EVALUATION.md." if (folder / "EVALUATION.md").is_file() else "Not evaluated."
    names = _measured(scores)
    lines = [(row["voice"], *(_interval(row.get(name)) for name in names)) for row in scores]
    return _table(("voice", *(f"{_SCORES[name]} [95 %]" for name in names)), lines)


def _interval(estimate: Mapping[str, float] | None) -> str:
    return UNKNOWN if estimate is None else "{value:.3f} [{low:.3f}, {high:.3f}]".format(**estimate)


def _table(head: Sequence[str], rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _plain(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def _config(folder: Path) -> dict[str, Any]:
    return _read(folder / "config.json")


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found
