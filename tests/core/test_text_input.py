"""What is text is read, however its bytes are cut; what is not is refused, and never made up."""

import gzip
import random
from pathlib import Path

import pytest

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.text_input import argument, decode, decoded, file_lines, lines_of

TEXT = "\ufeffÉtienne’s café – “Grüße”, 5 €.\r\nНичего, 你好.\rEnd"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_marked_text_is_read_in_blocks_of_any_size(encoding: str, size: int) -> None:
    data = TEXT.encode(encoding)
    pieces = decoded((data[at : at + size] for at in range(0, len(data), size)), "x")
    assert list(lines_of(pieces)) == ["Étienne’s café – “Grüße”, 5 €.\n", "Ничего, 你好.\n", "End"]


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_western_text_is_read_as_such(size: int, caplog: pytest.LogCaptureFixture) -> None:
    text = "“CAFÉ” is where Señor Núñez eats – a naïve façade.\nIt’s 5 €."
    data = text.encode("cp1252")
    assert "".join(decoded((data[at : at + size] for at in range(0, len(data), size)), "menu.txt")) == text
    (record,) = caplog.records
    assert record.getMessage().startswith("menu.txt is not UTF-8 and is read as Windows-1252")


def test_nothing_waits_for_more_than_its_own_character() -> None:
    blocks = iter([b"Hi", b". Ca", b"f\xc3", b"\xa9"])
    pieces = decoded(blocks, "x")
    assert [next(pieces), next(pieces), next(pieces)] == ["Hi", ". Ca", "f"] and next(blocks) == b"\xa9"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"PK\x03\x04rest", "a zip archive"),
        (b"{\\rtf1 Hello}", "an RTF document"),
        (b"Hello \0 there", "it is binary"),
        (b"\x01\x02\x03\x04\x05\x06 six", "it is binary"),
        ("Hello there".encode("utf-16-be"), "UTF-16 without its mark"),
        ("日本語のテキスト".encode("shift-jis"), "another encoding"),
        ("Ничего".encode("koi8-r"), "another encoding"),
        ("Grüße aus Köln, äöü".encode() + b"\xff", "another encoding"),
        (b"\xff\xfeH\0i", "no UTF-16-LE"),
    ],
)
def test_other_bytes_are_refused(data: bytes, told: str) -> None:
    with pytest.raises(VoicegraftError, match=f"^x is not text in UTF-8: it is .*{told}|{told}.*; give a text file"):
        decode(data, "x")


def test_random_bytes_are_never_text() -> None:
    for seed in range(300):
        with pytest.raises(VoicegraftError):
            decode(random.Random(seed).randbytes(200), "x")


def test_a_file_of_lines_may_be_gzipped_and_damaged_where_that_is_told(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.gz", "wb") as file:
        file.write("Grüße\nCaf\n".encode())
    assert list(file_lines(tmp_path / "a.gz")) == ["Grüße\n", "Caf\n"]
    (tmp_path / "b.txt").write_bytes("Grüße, äöü\n".encode() + b"Caf\xe9\nEnd")
    assert list(file_lines(tmp_path / "b.txt", replaces=True)) == ["Grüße, äöü\n", "Caf\ufffd\n", "End"]
    (tmp_path / "a.gz").write_bytes((tmp_path / "a.gz").read_bytes()[:-4])
    for name in ("a.gz", "none", "."):
        with pytest.raises(VoicegraftError, match="cannot read"):
            list(file_lines(tmp_path / name))


def test_an_argument_in_windows_1252_is_read_too() -> None:
    assert argument(b"caf\xe9 au lait".decode("utf-8", "surrogateescape")) == "café au lait"
    assert argument("café") == "café"
