"""Voice packs: one folder with everything that speaking needs, and a ``pack.json`` that says what it is.

pack.json    kind, format, defaults for speaking, fingerprints of the parts, provenance
CARD.md      data, licences, recipe, scores, for people
backbone/    the text LLM, a Hugging Face folder (a pack may name one elsewhere instead)
expert/      speech/ (PEFT adapter) and rows/
router/      which expert acts; without it, the task decides
monitor/     tells what semantic tokens sound like, for the guard; without it, speech is not watched
acoustic/    from semantic tokens to acoustic frames
voice/       from a recording to the vector of its speaker's voice; without it, the pack speaks in its own voices alone
semantic/    codec/   the tokenizers
vocoder/     from acoustic frames to sound; without it, the codec decodes
listening/   a listening pack (fusion/listening.py); without it, the pack does not hear
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from voicegraft.acoustic.acoustic_lm import AcousticLM
from voicegraft.acoustic.vocoder import Vocoder
from voicegraft.core.artifacts import atomic_folder, inside_folder, read_json
from voicegraft.core.config import to_dict
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.hub import Loadable, is_hub_name, opened
from voicegraft.core.parts import PART, part_problem
from voicegraft.fusion.backbone import BackboneSettings
from voicegraft.fusion.speech_lm import SpeechLM
from voicegraft.guard.recognizer import UnitRecognizer
from voicegraft.inference.sentence import SpeakOptions
from voicegraft.text.frontend import Frontend, need_spelling, open_frontend
from voicegraft.tokenizers.base import FrameDecoder
from voicegraft.tokenizers.loading import open_decoder

PARTS = ("backbone", "expert", "router", "monitor", "acoustic", "voice", "vocoder", "semantic", "codec", "listening")
OPTIONAL = ("router", "monitor", "voice", "vocoder", "listening")
PACK_HEADER = "pack.json"
SHARED = ("monitor", "acoustic", "voice", "vocoder", "semantic", "codec")  # those that may be another pack's
PACKS = Path(__file__).parent.parent / "packs"  # that come with the package
ASSISTANT = "assistant"  # the one of these that answers
DEFAULT_PACK = PACKS / "pocket"
FORMAT = 2  # 2: voices are vectors


@dataclass(frozen=True)
class PackHeader:
    """``pack.json``."""

    name: str
    format: int = FORMAT
    default_voice: str = ""
    options: SpeakOptions = field(default_factory=SpeakOptions)
    frontend: str = "english"  # or verbatim: how written text is read
    # Folder inside the pack, hub:NAME[@REVISION] or part:NAME; any other is given to ``open_pack``.
    backbone: str = "backbone"
    shares: str = ""  # pack that comes with the package, whose tokenizers, acoustic LM and so on are this one's, too
    provenance: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pack(Loadable):
    """A pack's models, checked to fit each other. ``Pack.from_pretrained`` takes a folder or a name on the Hub."""

    folder: Path
    header: PackHeader
    lm: SpeechLM
    acoustic: AcousticLM
    vocoder: FrameDecoder
    frontend: Frontend
    monitor: UnitRecognizer | None = None

    def part(self, name: str) -> Path:
        """Where one of ``PARTS`` lies, if the pack has it."""
        return part_of(self.folder, self.header, name)

    @staticmethod
    def load(folder: Path) -> Pack:
        return open_pack(folder)

    def save_pretrained(self, folder: str | Path) -> None:
        """Copies the pack to another folder, which ``hf upload`` publishes.

        Raises:
            VoicegraftError: the folder holds something else, or cannot be written.
        """
        with atomic_folder(folder, marker=PACK_HEADER) as draft:
            shutil.copytree(self.folder, draft, dirs_exist_ok=True)
            for name in SHARED if self.header.shares else ():  # another version of the package has others
                if (part := self.part(name)).is_dir():
                    shutil.copytree(part, draft / name, dirs_exist_ok=True)
            if self.header.shares:
                _write_header(draft, replace(self.header, shares=""))

    @property
    def token_sec(self) -> float:
        """Seconds of a semantic token."""
        ratio = self.acoustic.config.ratio
        return self.vocoder.hop / self.vocoder.sample_rate * ratio.acoustic_frames / ratio.semantic_tokens


def open_pack(
    folder: Path,
    backbone: str | Path | None = None,
    text_expert: Path | None = None,
    settings: BackboneSettings | None = None,
) -> Pack:
    """Loads the models that speak (the tokenizers are for training and evaluation and stay on disk).

    Args:
        backbone: folder or Hub name of the text LLM, for a pack that does not hold or name it.
        text_expert: PEFT's adapter folder that writes; None is the identity, the untouched backbone.
        settings: how the backbone is held in memory.

    Raises:
        VoicegraftError: not a pack, a damaged part, or parts that do not belong together.
    """
    header = read_header(folder)
    frontend = open_frontend(header.frontend)
    router, listening = folder / "router", folder / "listening"
    lm = SpeechLM.load(
        backbone or backbone_of(folder, header),
        folder / "expert",
        router if router.is_dir() else None,
        text_expert,
        settings=settings,
        listening=listening if listening.is_dir() else None,
    )
    need_spelling(header.frontend, lm.speech_embedding.config.layout)
    at = {name: part_of(folder, header, name) for name in SHARED}
    acoustic = AcousticLM.load(at["acoustic"])
    vocoder: FrameDecoder = Vocoder.load(at["vocoder"]) if at["vocoder"].is_dir() else open_decoder(at["codec"].parent)
    monitor = UnitRecognizer.load(at["monitor"]) if at["monitor"].is_dir() else None
    says, spoken = "the speech expert speaks semantic tokens", lm.speech_embedding.config.semantic
    for what, made, reader, read in (
        (says, spoken, "the acoustic LM", acoustic.config.semantic),
        ("the acoustic LM writes codes", acoustic.config.codec, "the vocoder", vocoder.codec),
        (says, spoken, "the monitor", monitor.config.semantic if monitor else spoken),
    ):
        if made != read:
            raise VoicegraftError(f"{folder}: {what} {made}, {reader} reads {read}; take both from one training run")
    return Pack(folder, header, lm, acoustic, vocoder, frontend, monitor)


def backbone_of(folder: Path, header: PackHeader) -> str | Path:
    """Where a pack's text LLM lies. Raises VoicegraftError: outside of the pack, and not named by a name."""
    if is_hub_name(header.backbone):
        return header.backbone
    return inside_folder(folder, header.backbone, f"{PACK_HEADER} names a backbone")


def part_of(folder: Path, header: PackHeader, name: str) -> Path:
    """Where a part of a pack lies: in its folder, else in that of the pack that it shares parts with.

    Raises:
        VoicegraftError: this version of the package has no such pack.
    """
    own = folder / name
    if own.is_dir() or name not in SHARED or not header.shares:
        return own
    if header.shares not in shipped_packs():
        raise VoicegraftError(
            f"{folder} takes parts from the pack {header.shares!r:.40}, this version of voicegraft has "
            f"{', '.join(shipped_packs())}; upgrade voicegraft"
        )
    return PACKS / header.shares / name


def shipped_packs() -> list[str]:
    """Names of the packs that come with the package."""
    return sorted(path.parent.name for path in PACKS.glob(f"*/{PACK_HEADER}"))


def is_shipped(name: str) -> bool:
    """Whether it names one of these; a pack in a folder of that name comes first."""
    return name in shipped_packs() and not (Path(name) / PACK_HEADER).is_file()


def missing_part(name: str) -> str:
    """The part that a shipped pack's backbone is and that this machine lacks; "" if nothing is missing."""
    backbone = read_header(PACKS / name).backbone
    part = backbone.removeprefix(PART)
    return part if part != backbone and part_problem(part) else ""


def pack_folder(pack: str | Path | None) -> Path:
    """The folder of a pack: a folder, hub:NAME[@REVISION], or the name of one that comes with the package; None: the pocket's.

    Raises:
        VoicegraftError: the Hub does not give it.
    """
    if pack is None:
        return DEFAULT_PACK
    if is_shipped(str(pack)):
        return PACKS / pack
    return opened(pack)


def read_header(folder: Path) -> PackHeader:
    """Raises VoicegraftError: it is no voice pack, damaged, or of another format."""
    return read_json(folder / PACK_HEADER, PackHeader, "voice pack", FORMAT, "graft it anew")


def write_pack(folder: Path, work: Path, header: PackHeader, card: str) -> None:
    """Gathers the trained parts of a work folder into a pack."""
    with atomic_folder(folder, marker=PACK_HEADER) as draft:
        for part in PARTS:
            if part == "backbone" and header.backbone != "backbone":
                continue
            if part in SHARED and header.shares:
                continue
            if part in OPTIONAL and not (work / part).is_dir():
                continue
            if not (work / part).is_dir():
                raise VoicegraftError(f"cannot write the pack: {work / part} is missing; run the recipe that trains it")
            shutil.copytree(work / part, draft / part, ignore=shutil.ignore_patterns("README.md", "resume", "log"))
        _write_header(draft, header)
        (draft / "CARD.md").write_text(card, encoding="utf-8")


def _write_header(folder: Path, header: PackHeader) -> None:
    (folder / PACK_HEADER).write_text(json.dumps(to_dict(header), indent=2) + "\n", encoding="utf-8")


def weight_bytes(folder: Path) -> Mapping[str, int]:
    """Bytes of safetensors per part of a pack."""
    return {part: sum(p.stat().st_size for p in (folder / part).rglob("*.safetensors")) for part in PARTS}
