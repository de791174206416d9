"""``--like`` through the commands: what is said of the recording, and that it is never overwritten."""

import shutil
from pathlib import Path

import pytest
import soundfile

from tests.cli.test_cli import pack, refused, run  # noqa: F401
from tests.inference.test_voice import recording


def test_speak_like(pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    anna, out = recording(tmp_path / "anna.wav", 3.0), tmp_path / "said.wav"
    assert run("speak", "Go home.", "--pack", pack, "--like", anna, "--out", out) == 0
    assert "speaking like anna.wav, in the manner of " in capsys.readouterr().err
    with soundfile.SoundFile(out) as file:
        assert file.comment.endswith("made like anna.wav")
    assert "give one of them" in refused(capsys, "speak", "Go.", "--pack", pack, "--like", anna, "--voice", "ann")


def test_the_recording_is_not_overwritten(
    pack: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    anna, lines, spoken = recording(tmp_path / "anna.wav", 3.0), tmp_path / "lines.txt", tmp_path / "spoken"
    lines.write_text("Go home.\n")
    spoken.mkdir()
    first = Path(shutil.copy(anna, spoken / "0001.wav"))
    (tmp_path / "link.wav").symlink_to(anna)
    before = anna.read_bytes()
    for command in (
        ("speak", "Go.", "--out", anna, "--like", anna),
        ("speak", "Go.", "--out", tmp_path / "link.wav", "--like", anna),
        ("ask", "Go?", "--out", anna, "--like", anna),
        ("speak", "--lines", lines, "--out-dir", spoken, "--like", first),
    ):
        assert "would be overwritten" in refused(capsys, *command, "--pack", pack)
    assert anna.read_bytes() == first.read_bytes() == before
