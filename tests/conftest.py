"""Tests are hermetic: one thread, no network, no GPU unless a test asks for one."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from voicegraft.inference.pack import Pack
    from voicegraft.inference.speaker import Speaker

# Before anybody imports torch: sums on one thread have one order, and tiny models are faster so.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("VOICEGRAFT_PARTS", os.devnull)  # whatever parts this machine has


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Only this machine may be called."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in (
            "127.0.0.1",
            "::1",
            "localhost",
        ):
            raise AssertionError(f"a test wanted to reach {address} over the network")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """A process a core, virtual ones too, and 3 GB of memory for each: the larger tests load judges and train."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(cores, memory // 3_000_000_000, 8))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Files with slow tests begin first, so that no process is left alone with one in the end.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_items:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def pack_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random pack, written once; tests that spoil it copy it first."""
    from tests import tiny

    folder = tmp_path_factory.mktemp("tiny")
    tiny.write_tiny_pack(folder / "pack", folder / "work")
    return folder / "pack"


@pytest.fixture(scope="session")
def pack(pack_folder: Path) -> "Pack":
    from voicegraft.inference.pack import open_pack

    return open_pack(pack_folder)


@pytest.fixture(scope="session")
def speaker(pack_folder: Path) -> "Speaker":
    from voicegraft.inference.speaker import Speaker

    return Speaker.load(pack_folder)
