from pathlib import Path

import pytest

from voicegraft.core.files import write_text


def test_a_text_is_replaced_in_one_move(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "one\ntwo")
    write_text(path, "three\n")
    assert path.read_text(encoding="utf-8") == "three\n" and [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_what_cannot_be_written_leaves_the_old_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "one")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "one\n"
