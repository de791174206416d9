import contextlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from voicegraft.core.errors import VoicegraftError
from voicegraft.data.corpora import book_paragraphs, dialogues, readable_sentences, unpack, words_key


def write_tar(path: Path, files: dict[str, str], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))


def test_archives_are_unpacked_and_folders_linked(tmp_path: Path) -> None:
    data, into = tmp_path / "data", tmp_path / "work" / "corpora"
    write_tar(data / "kate.tar", {"kate/a.txt": "a"})
    write_tar(data / "text" / "books.tar.xz", {"novels/b.txt": "b"}, "w:xz")  # its folder may be called otherwise
    (data / "here").mkdir()
    (data / "here" / "c.txt").write_text("c")
    unpack(data, into, ["kate", "books", "here"])
    assert [(into / n).read_text() for n in ("kate/a.txt", "books/b.txt", "here/c.txt")] == ["a", "b", "c"]
    (data / "kate.tar").unlink()
    unpack(data, into, ["kate"])  # what is there is kept
    with pytest.raises(VoicegraftError, match=r"corpus 'nobody' not found .* nobody\.tar"):
        unpack(data, into, ["nobody"])


def test_an_archive_that_breaks_off_leaves_no_half_corpus(tmp_path: Path) -> None:
    data, into = tmp_path / "data", tmp_path / "corpora"
    write_tar(data / "kate.tar", {"kate/a.txt": "a" * 5000, "kate/b.txt": "b" * 5000})
    whole = (data / "kate.tar").read_bytes()
    (data / "kate.tar").write_bytes(whole[:7000])
    with pytest.raises(VoicegraftError, match="cannot unpack"):
        unpack(data, into, ["kate"])
    (data / "kate.tar").write_bytes(whole)
    unpack(data, into, ["kate"])
    assert (into / "kate" / "b.txt").read_text() == "b" * 5000


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt"])
def test_a_member_that_leaves_the_folder_does_not_get_out(name: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "data" / "kate.tar", {"kate/a.txt": "a", name: "evil"})
    with contextlib.suppress(VoicegraftError):
        unpack(tmp_path / "data", tmp_path / "deep" / "corpora", ["kate"])
    assert not Path("/evil.txt").exists()
    assert not (tmp_path / "deep" / "evil.txt").exists() and not (tmp_path / "evil.txt").exists()


def test_paragraphs_are_folded(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("Second _book_.")
    (tmp_path / "a.txt").write_text("One\nline.\n\n\n  Two\n  more. \n\n")
    (tmp_path / "SOURCE.txt").write_text("where from")
    assert list(book_paragraphs(tmp_path)) == ["One line.", "Two more.", "Second book."]


def test_dialogues_are_read(tmp_path: Path) -> None:
    turns = [{"speaker": "user", "text": "Hi."}, {"speaker": "system", "text": "Hello."}]
    (tmp_path / "d.jsonl").write_text(json.dumps({"turns": turns}) + "\n")
    assert list(dialogues(tmp_path / "d.jsonl")) == [[("user", "Hi."), ("system", "Hello.")]]


@pytest.mark.parametrize(
    "text, sentences",
    [
        ("It was late, and nobody came. “Who’s there?” asked he.", ["It was late, and nobody came."]),
        ("He said: wait for me — please.", ["He said: wait for me , please."]),
        ("In 1920 he came to town. And then they all went home.", ["And then they all went home."]),
        ("He came to town with Mr. Smith.", []),
        ("Too short here.", []),
        ("no capital at the beginning here.", []),
    ],
)
def test_only_what_can_be_read_as_it_stands_is_kept(text: str, sentences: list[str]) -> None:
    assert list(readable_sentences([text])) == sentences


def test_texts_that_say_the_same_have_one_key() -> None:
    assert words_key("Don't go—HOME!") == words_key("don't  go home") != words_key("dont go home")
