from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from voicegraft.core.errors import VoicegraftError
from voicegraft.data.shards import RaggedArray, write_ragged

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("item_shape", [(), (3,), (2, 4)])
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_what_is_written_is_read(item_shape: tuple[int, ...], dtype: str, tmp_path: Path) -> None:
    arrays = [RANDOM.integers(-99, 99, (n, *item_shape)).astype(dtype) for n in (3, 0, 7, 1)]
    write_ragged(tmp_path / "shard", iter(arrays), dtype, key="k")
    read = RaggedArray(tmp_path / "shard", key="k")
    assert len(read) == 4 and read.lengths.tolist() == [3, 0, 7, 1]
    for before, after in zip(arrays, read, strict=True):
        assert after.dtype == dtype
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("arrays", [[], [np.zeros((0, 2))]])
def test_nothing_at_all_can_be_stored(arrays: list[np.ndarray], tmp_path: Path) -> None:
    write_ragged(tmp_path / "shard", arrays, "int16")
    assert [len(a) for a in RaggedArray(tmp_path / "shard")] == [0] * len(arrays)


def test_another_key_is_refused(tmp_path: Path) -> None:
    write_ragged(tmp_path / "shard", [np.zeros(3)], "int16", key="tokenizer-a")
    with pytest.raises(VoicegraftError, match=r"made for 'tokenizer-a', but 'tokenizer-b' is in use"):
        RaggedArray(tmp_path / "shard", key="tokenizer-b")


def test_a_shard_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield np.zeros(5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_ragged(tmp_path / "shard", broken(), "int16")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(VoicegraftError, match="no shard"):
        RaggedArray(tmp_path / "shard")


def test_a_failed_rewrite_leaves_the_old_shard(tmp_path: Path) -> None:
    write_ragged(tmp_path / "shard", [np.arange(4)], "int16")
    with pytest.raises(ValueError):
        write_ragged(tmp_path / "shard", [np.arange(9), np.asarray(["no", "numbers"])], "int16")
    assert RaggedArray(tmp_path / "shard")[0].tolist() == [0, 1, 2, 3]


def test_rows_are_read_only(tmp_path: Path) -> None:
    write_ragged(tmp_path / "shard", [np.arange(4)], "int16")
    with pytest.raises(ValueError):
        RaggedArray(tmp_path / "shard")[0][0] = 1


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(VoicegraftError, match="would be lost"):
        write_ragged(tmp_path, [np.arange(4)], "int16")
    assert (tmp_path / "thesis.txt").exists()
