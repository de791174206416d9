"""Models and their parts by folder, or by name on the Hugging Face Hub.

A name is ``organisation/model``, with a revision behind an ``@`` if it is to stay what it is, and ``hub:`` before it where it
could be taken for a folder (``pack.json`` writes it so). Only safetensors, JSON and text are fetched, nothing that could run.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from voicegraft.core.errors import VoicegraftError

HUB = "hub:"
FILES = ("*.safetensors", "*.json", "*.txt", "*.md", "*.model", "*.jinja")
DOUBLES = ("consolidated*", "original/*", "onnx/*")  # the same weights once more, for other programs
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?")
P = TypeVar("P", bound="Loadable")


def resolve(name_or_path: str | Path, allow_patterns: Sequence[str] = FILES) -> Path:
    """The folder of that path, or the local copy of that repository on the Hub.

    What was fetched once is kept in the Hub's cache (``HF_HOME``) and found there without a network too.

    Args:
        name_or_path: a ``Path`` is always a path; a string is a folder if there is one of that name.
        allow_patterns: files to fetch.

    Raises:
        VoicegraftError: there is no such folder, repository or revision, it may not be read, holds no safetensors, or the
            network or the disk fails.
    """
    text = str(name_or_path)
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
    folder = _fetch(repository, revision or None, allow_patterns)
    if not any(folder.rglob("*.safetensors")):
        raise VoicegraftError(
            f"{repository} on the Hugging Face Hub has no safetensors weights, and pickled ones (.bin, .pt) are never "
            "loaded: name a repository that has them, or convert it (huggingface.co/spaces/safetensors/convert)"
        )
    return folder


def is_hub_name(name_or_path: str | Path) -> bool:
    """Whether it is written as a name on the Hub, with ``hub:`` before it."""
    return isinstance(name_or_path, str) and name_or_path.startswith(HUB)


def opened(name_or_path: str | Path) -> Path:
    """The local copy of what ``hub:`` names; any other is a path, be there something or not."""
    return resolve(name_or_path) if is_hub_name(name_or_path) else Path(name_or_path)


def _fetch(repository: str, revision: str | None, patterns: Sequence[str]) -> Path:
    from huggingface_hub import constants, errors, snapshot_download

    def problem(text: str) -> VoicegraftError:
        return VoicegraftError(
            f"no folder here is called {repository}, and the Hugging Face Hub does not give it: {text}"
        )

    try:
        return Path(
            snapshot_download(
                repository, revision=revision, allow_patterns=list(patterns), ignore_patterns=list(DOUBLES)
            )
        )
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
