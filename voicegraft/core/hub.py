"""Models and their parts by folder, by name on the Hugging Face Hub, or by the name of a part with ``part:`` before it.

A name is ``organisation/model``, with a revision behind an ``@`` if it is to stay what it is, and ``hub:`` before it where it
could be taken for a folder (``pack.json`` writes it so). Only safetensors, JSON and text are fetched, nothing that could run.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.parts import PART, find_part

HUB = "hub:"
GGUF = ".gguf"  # a model of llama.cpp in one file
FILES = ("*.safetensors", "*.json", "*.txt", "*.txt.gz", "*.md", "*.model", "*.jinja")
DOUBLES = ("consolidated*", "original/*", "onnx/*")  # the same weights once more, for other programs
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?")
P = TypeVar("P", bound="Loadable")


def resolve(name_or_path: str | Path, allow_patterns: Sequence[str] = FILES) -> Path:
    """The folder of that path, the part of that name, or the local copy of that repository on the Hub; a GGUF file is itself.

    What was fetched once is kept in the Hub's cache (``HF_HOME``) and found there without a network too.

    Args:
        name_or_path: a ``Path`` is always a path; a string is a folder if there is one of that name.
        allow_patterns: files to fetch.

    Raises:
        VoicegraftError: there is no such folder, part, repository or revision, it may not be read, holds no safetensors, or the
            network or the disk fails.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, str) and text.startswith(PART):
        return find_part(text.removeprefix(PART))
    if text.endswith(GGUF):
        if not Path(text).expanduser().is_file():
            raise VoicegraftError(f"expected a GGUF file at {text}, found none; check the path")
        return Path(text).expanduser()
    by_name = isinstance(name_or_path, str) and text.startswith(HUB)
    if text and not by_name and Path(text).expanduser().is_dir():
        return Path(text).expanduser()
    name = text.removeprefix(HUB) if by_name else text
    if isinstance(name_or_path, Path) or not _NAME.fullmatch(name):
        raise VoicegraftError(
            f"expected a folder or a name on the Hugging Face Hub such as Qwen/Qwen2.5-0.5B-Instruct, got {text}: there is "
            "no such folder; check the path"
        )
    repository, _, revision = name.partition("@")
    folder = fetch(repository, revision or None, allow_patterns)
    if not any(folder.rglob("*.safetensors")):
        raise VoicegraftError(
            f"{repository} on the Hugging Face Hub has no safetensors weights, and pickled ones (.bin, .pt) are never "
            "loaded: name a repository that has them, or convert it (huggingface.co/spaces/safetensors/convert)"
        )
    return folder


def is_hub_name(name_or_path: str | Path) -> bool:
    """Whether it is written as a name, with ``hub:`` or ``part:`` before it."""
    return isinstance(name_or_path, str) and name_or_path.startswith((HUB, PART))


def opened(name_or_path: str | Path) -> Path:
    """The local copy of what ``hub:`` or ``part:`` names; any other is a path, be there something or not."""
    return resolve(name_or_path) if is_hub_name(name_or_path) else Path(name_or_path)


def fetch(repository: str, revision: str | None, patterns: Sequence[str], folder: Path | None = None) -> Path:
    """The local copy of a repository, in the Hub's cache, or in a folder of its own; errors as of ``resolve``."""
    from huggingface_hub import snapshot_download

    wanted = f"no folder here is called {repository}, and the Hugging Face Hub does not give it"
    with _refusals(
        repository, revision, wanted if folder is None else f"the Hugging Face Hub does not give {repository}"
    ):
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=list(patterns),
                ignore_patterns=list(DOUBLES) if folder is None else None,
                local_dir=folder,
            )
        )


def hub_digests(repository: str, revision: str | None, paths: Sequence[str]) -> dict[str, str]:
    """SHA-256 of those files that the Hub keeps one of, which are the large ones; errors as of ``resolve``."""
    from huggingface_hub import HfApi

    with _refusals(repository, revision, f"the Hugging Face Hub does not tell of {repository}"):
        found = HfApi().get_paths_info(repository, list(paths), revision=revision)
    large = {file.path: getattr(file, "lfs", None) for file in found}
    return {path: kept.sha256 for path, kept in large.items() if kept}


@contextmanager
def _refusals(repository: str, revision: str | None, what: str) -> Iterator[None]:
    from huggingface_hub import constants, errors

    def problem(text: str) -> VoicegraftError:
        return VoicegraftError(f"{what}: {text}")

    try:
        yield
    except errors.GatedRepoError as error:
        raise problem(
            f"its licence must be accepted first: do so at {constants.ENDPOINT}/{repository}, then `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise problem(
            "there is no such public repository; check the spelling, and `hf auth login` if it is private"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise problem(f"it has no revision {revision}; check the branch, tag or commit behind the @") from error
    except errors.LocalEntryNotFoundError as error:
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "it cannot be reached"
        raise problem(
            f"{why} and the cache does not hold all of it; connect once, or give a folder that you copied yourself"
        ) from error
    except errors.HFValidationError as error:
        raise problem("that is no name of a repository; expected organisation/model") from error
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise problem(f"the disk is full; make room in {constants.HF_HUB_CACHE}, or set HF_HOME") from error
        raise problem(f"{' '.join(str(error).split()) or type(error).__name__}; try again") from error


class Loadable:
    """Adds ``from_pretrained`` to a class that has ``load(folder)``."""

    @classmethod
    def load(cls, folder: Path) -> Any:
        raise NotImplementedError

    @classmethod
    def from_pretrained(cls: type[P], name_or_path: str | Path, subfolder: str = "") -> P:
        """Loads what lies in a folder or in a repository on the Hub.

        Args:
            subfolder: where in it, such as a part of a pack.

        Raises:
            VoicegraftError: see ``resolve`` and ``load``.
        """
        patterns = [f"{subfolder}/{pattern}" for pattern in FILES] if subfolder else FILES
        loaded: P = cls.load(resolve(name_or_path, patterns) / subfolder)
        return loaded
