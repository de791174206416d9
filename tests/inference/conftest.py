from pathlib import Path

import pytest

from tests import tiny
from voicegraft.inference.pack import Pack, open_pack
from voicegraft.inference.speaker import Speaker


@pytest.fixture(scope="session")
def pack_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random pack, written once; tests that spoil it copy it first."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny.write_tiny_pack(folder / "pack", folder / "work")
    return folder / "pack"


@pytest.fixture(scope="session")
def pack(pack_folder: Path) -> Pack:
    return open_pack(pack_folder)


@pytest.fixture(scope="session")
def speaker(pack_folder: Path) -> Speaker:
    return Speaker.load(pack_folder)
