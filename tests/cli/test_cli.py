import io
import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests import tiny
from tests.dictation import dictated
from tests.guarding import oracle
from voicegraft import cli
from voicegraft.cli import verbs
from voicegraft.fusion.speech_lm import SpeechLM
from voicegraft.guard.guarded import SpeechFailure
from voicegraft.guard.recognizer import VoicePace
from voicegraft.inference import pack as packing
from voicegraft.inference import speaker as speaking
from voicegraft.inference.pack import DEFAULT_PACK
from voicegraft.inference.timestamps import TimestampWriter
from voicegraft.text.units import UNITS


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny.write_tiny_pack(folder / "pack", folder / "work")
    return folder / "pack"


@pytest.fixture(autouse=True)
def _loaded_once(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading is tested elsewhere; here the pack is loaded once, and other folders as they are."""
    load, loaded = speaking.Speaker.load, _LOADED

    def remembering(folder: Path | None = None, *rest: object) -> speaking.Speaker:
        if folder != pack:
            return load(folder, *rest)  # type: ignore[arg-type]
        if folder not in loaded:
            loaded[folder] = load(folder)
        return loaded[folder]

    monkeypatch.setattr(speaking.Speaker, "load", remembering)


_LOADED: dict[Path, speaking.Speaker] = {}


def run(*arguments: object) -> int:
    return cli.main([str(a) for a in arguments])


def piped(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Exit status 2 and one line on standard error, which is returned."""
    capsys.readouterr()
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("voicegraft: ") and err.count("\n") == 1 and "Traceback" not in err
    return err


@pytest.mark.parametrize("suffix, kind", [("wav", "WAV"), ("flac", "FLAC"), ("opus", "OGG"), ("mp3", "MP3")])
def test_speak_writes_a_file(
    suffix: str, kind: str, pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"said.{suffix}"
    assert run("speak", "Go home.", "--pack", pack, "--out", out, "--voice", "ann", "--seed", 5) == 0
    info = soundfile.info(out)
    assert info.format == kind and info.samplerate == 24_000 and info.channels == 1
    padding = 0.1 if suffix == "mp3" else 0.02  # seconds
    assert info.duration == pytest.approx(_LOADED[pack].say("Go home.", "ann", 5).duration_sec, abs=padding)
    said, err = capsys.readouterr()
    assert said.startswith(f"{out}: ") and "RTF" in said and err == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == [out.name]


def test_speak_writes_the_speakers_samples(pack: Path, tmp_path: Path) -> None:
    run("speak", "Go home.", "--pack", pack, "--out", tmp_path / "a.wav", "--voice", "ann", "--seed", 5)
    samples, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    wanted = np.clip(_LOADED[pack].say("Go home.", "ann", 5).samples, -1, 1)
    np.testing.assert_allclose(samples, wanted, atol=1 / 32000)


@pytest.mark.parametrize("dash", [(), ("-",)])
def test_text_comes_from_standard_input(
    dash: tuple[str, ...], pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    piped(monkeypatch, b"Go home. We see.\n")
    assert run("speak", *dash, "--pack", pack) == 0
    wanted = _LOADED[pack].say("Go home. We see.").duration_sec
    assert soundfile.info("speech.wav").duration == pytest.approx(wanted)


@pytest.mark.parametrize("suffix", ["json", "srt", "vtt"])
def test_word_times_are_written_beside_the_sound(pack: Path, tmp_path: Path, suffix: str) -> None:
    times = tmp_path / f"a.{suffix}"
    assert run("speak", "Go home.", "--pack", pack, "--out", tmp_path / "a.wav", "--timestamps", times) == 0
    assert "Go" in times.read_text() and sorted(p.name for p in tmp_path.iterdir()) == sorted(["a.wav", times.name])
    lines = tmp_path / "lines.txt"
    lines.write_text("We see.\nNow!\n")
    folder = tmp_path / "out"
    assert run("speak", "--lines", lines, "--out-dir", folder, "--pack", pack, "--timestamps", suffix) == 0
    assert "Now" in (folder / f"0002.{suffix}").read_text()


def test_a_sentence_that_cannot_be_said_is_told_and_is_no_success(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For a voice that is known to be infinitely fast, whatever it says takes too long."""
    run("speak", "Go.", "--pack", pack, "--out", tmp_path / "a.wav")
    speaker = _LOADED[pack]
    monitor = oracle()
    fast = VoicePace("ben", (0.01,) * len(UNITS), (0.0,) * len(UNITS), (30,) * len(UNITS))
    monitor.config = replace(monitor.config, pace=(fast,))
    monkeypatch.setattr(speaker, "pack", replace(speaker.pack, monitor=monitor))
    capsys.readouterr()
    text = "The owl sees my house and my house sees the owl."
    said = ("speak", text, "--pack", pack, "--out", tmp_path / "a.wav", "--timestamps", tmp_path / "a.json")
    assert run(*said) == 1
    assert "1 of 1 sentences could not be said to their end" in capsys.readouterr().err
    read = json.loads((tmp_path / "a.json").read_text())
    assert read["status"] == "failed" and read["sentences"][0]["retries"] == 3 and read["sentences"][0]["faults"]
    with pytest.raises(SpeechFailure, match="could not be said"):
        speaker.say(text).report.raise_for_status()
    assert run(*said, "--guard", "off") == 0 and run(*said, "--guard", "watch") == 0


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"%PDF-1.7\n1 0 obj", "it is a PDF"),
        (b"\x89PNG\r\n\x1a\n", "it is a PNG picture"),
        (b"\x1f\x8b\x08\0", "it is a gzip archive"),
        (random.Random(0).randbytes(3000), "it is binary"),
        ("Привет, мир.".encode("cp1251"), "text in another encoding"),
        ("Go home.".encode("utf-16-le"), "it is UTF-16 without its mark"),
        ("Schöne Grüße, ".encode() + b"caf\xe9.", "text in another encoding"),
    ],
)
def test_standard_input_that_is_no_text_is_refused(
    data: bytes,
    told: str,
    pack: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "lines.txt").write_bytes(data)
    piped(monkeypatch, data)
    for arguments in (("--out", tmp_path / "a.wav"), ("--lines", tmp_path / "lines.txt", "--out-dir", tmp_path / "o")):
        assert told in refused(capsys, "speak", "--pack", pack, *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["lines.txt"]


def test_windows_1252_is_read_and_said_once(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    piped(monkeypatch, "We see caf\xe9s \u2013 go home.\nSe\xf1or, go home.".encode("cp1252"))
    assert run("speak", "--pack", pack, "--out", tmp_path / "a.wav", "--timestamps", tmp_path / "a.json") == 0
    told = capsys.readouterr().err.splitlines()
    assert (
        told[0].startswith("voicegraft: standard input is not UTF-8 and is read as Windows-1252; ") and len(told) == 1
    )
    assert "cafés" in (tmp_path / "a.json").read_text()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_mark_before_the_first_word_is_no_part_of_it(
    encoding: str, pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped(monkeypatch, "Go home.".encode(encoding))
    assert run("speak", "--pack", pack, "--out", tmp_path / "a.wav", "--timestamps", tmp_path / "a.srt") == 0
    assert (tmp_path / "a.srt").read_text(encoding="utf-8").splitlines()[2] == "Go home."


def test_standard_input_is_spoken_while_it_comes(pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first sentence is said before the second has come, with no line break between them."""
    pieces = [b"We see. We go home now. Now", b" go home. Go home", b" now."]

    class Slow(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            piece = pieces.pop(0) if pieces else b""
            buffer[: len(piece)] = piece
            return len(piece)

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Slow())))
    add, left = TimestampWriter.add, []
    monkeypatch.setattr(TimestampWriter, "add", lambda *a: (left.append(len(pieces)), add(*a))[1])
    assert run("speak", "--pack", pack, "--out", tmp_path / "a.wav", "--timestamps", tmp_path / "a.json") == 0
    assert left[0] > 0 and len(left) == 4


def test_closed_standard_input_and_a_full_disk_are_one_line(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert "standard input, which is closed" in refused(capsys, "speak", "--pack", pack, "--out", tmp_path / "a.wav")
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert run("speak", "Go.", "--pack", pack, "--out", tmp_path / "a.wav") == 2
    assert capsys.readouterr().err == "voicegraft: cannot write: No space left on device\n"


def test_sound_goes_to_standard_output(
    pack: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Pipe(io.TextIOWrapper):
        pass

    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", Pipe(out, encoding="utf-8"))
    assert run("speak", "Go home.", "--pack", pack, "--voice", "ann", "--seed", 5, "--out", "-") == 0
    wanted = np.clip(_LOADED[pack].say("Go home.", "ann", 5).samples, -1, 1)
    data = out.getvalue()
    assert data[:4] == b"RIFF" and len(data) == 44 + 2 * len(wanted)
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate == 24_000
    np.testing.assert_allclose(samples, wanted, atol=1 / 32000)
    assert "-: " in capfd.readouterr().err


def test_lines_are_spoken_into_files_and_kept_by_a_second_run(
    pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, out = tmp_path / "lines.txt", tmp_path / "deep" / "out"
    lines.write_text("\ufeffWe see.\n\n  Go 2 homes.  \nNow!\n", encoding="utf-8")
    arguments = ("speak", "--lines", lines, "--out-dir", out, "--pack", pack)
    assert run(*arguments) == 0
    assert "3 lines spoken, 0 of them not ok" in capsys.readouterr().out
    rows = [json.loads(line) for line in (out / "report.jsonl").read_text().splitlines()]
    assert [r["file"] for r in rows] == ["0001.wav", "0002.wav", "0003.wav"]
    assert [r["text"] for r in rows] == ["We see.", "Go 2 homes.", "Now!"]
    assert [r["line"] for r in rows] == [1, 3, 4]  # as they are counted in the file
    assert rows[1]["spoken_text"] == "Go two homes." and {r["status"] for r in rows} == {"ok"}
    for row in rows:
        assert soundfile.info(out / row["file"]).duration == pytest.approx(row["audio_sec"], abs=1e-3)
        request = {"voice": "ben", "seed": 0, "pack": _LOADED[pack].fingerprint, "guard": "on", "timestamps": ""}
        assert row["request"] == request

    # A run that was killed while it wrote the third row: only that one is spoken again.
    before = (out / "report.jsonl").read_text().splitlines()
    (out / "report.jsonl").write_text("\n".join([*before[:2], before[2][:40]]))
    (out / "0003.wav").unlink()
    stamps = {p.name: p.stat().st_mtime_ns for p in sorted(out.glob("*.wav"))}
    assert run(*arguments) == 0
    after = [json.loads(line) for line in (out / "report.jsonl").read_text().splitlines()]
    assert after[:2] == rows[:2] and after[2]["text"] == "Now!" and (out / "0003.wav").exists()
    assert {n: (out / n).stat().st_mtime_ns for n in stamps} == stamps

    # Another text, or another seed, is spoken anew.
    lines.write_text("We see.\nGo home.\nNow!\n")
    assert run(*arguments) == 0
    assert [(out / n).stat().st_mtime_ns != stamps[n] for n in stamps] == [False, True]
    assert run(*arguments, "--seed", 1) == 0
    assert (out / "0001.wav").stat().st_mtime_ns != stamps["0001.wav"]

    # Fewer lines: what is there of others is named.
    lines.write_text("We see.\n")
    capsys.readouterr()
    assert run(*arguments) == 0
    assert "also holds 2 sounds of other lines: 0002.wav, 0003.wav" in capsys.readouterr().err


def test_a_line_that_says_nothing_is_reported(pack: Path, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("Go.\n...\n")
    assert run("speak", "--lines", tmp_path / "lines.txt", "--out-dir", tmp_path / "out", "--pack", pack) == 1
    rows = [json.loads(line) for line in (tmp_path / "out" / "report.jsonl").read_text().splitlines()]
    assert [r["status"] for r in rows] == ["ok", "empty"]
    assert not (tmp_path / "out" / "0002.wav").exists()


def test_voices_are_listed(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("speak", "--list-voices", "--pack", pack) == 0
    assert capsys.readouterr().out == "ann\nben\n"


def test_mistakes_are_one_line(pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty.txt").write_text("\n \n")
    wav = tmp_path / "a.wav"
    go = ("speak", "Go.", "--pack", pack)
    assert "nothing to say" in refused(capsys, "speak", "", "--pack", pack, "--out", wav)
    assert "nothing to say" in refused(capsys, "speak", "?!", "--pack", pack, "--out", wav)
    assert "no voice 'eve'" in refused(capsys, *go, "--out", wav, "--voice", "eve")
    assert "found no pack.json" in refused(capsys, "speak", "Go.", "--pack", tmp_path / "none", "--out", wav)
    assert "ends in .wav, .flac, .opus, .mp3" in refused(capsys, *go, "--out", tmp_path / "a.aac")
    assert "does not exist" in refused(capsys, *go, "--out", tmp_path / "none" / "a.wav")
    assert "is a folder" in refused(capsys, *go, "--out", _folder(tmp_path / "b.wav"))
    lines = ("speak", "--pack", pack, "--lines", tmp_path / "file")
    assert "cannot write to" in refused(capsys, *lines, "--out-dir", tmp_path / "file" / "out")
    assert "cannot write to" in refused(capsys, *lines, "--out-dir", tmp_path / "file")
    assert "--out-dir DIR" in refused(capsys, *lines)
    assert "neither a text" in refused(capsys, *lines, "--out-dir", tmp_path, "--out", wav)
    assert "--out-dir goes with" in refused(capsys, *go, "--out-dir", tmp_path)
    for seed in (-1, 99999999999999999999999):
        assert "expected a seed from 0 to 18446744073709551615" in refused(capsys, *go, "--out", wav, "--seed", seed)
    for name, message in (
        ("empty.txt", "no lines"),
        ("nothing.txt", "cannot read"),
    ):
        assert message in refused(capsys, "speak", "--lines", tmp_path / name, "--out-dir", tmp_path / "o")
    assert "no such verb: 'recipe bake'; voicegraft recipe knows align, " in refused(capsys, "recipe", "bake")
    assert "no such verb: 'evaluate taste'" in refused(capsys, "evaluate", "taste")
    assert "cannot read config" in refused(capsys, "recipe", "train_codec", tmp_path / "none.yaml")
    assert not wav.exists()


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_wrong_suffix_shows_before_anything_is_spoken(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speaking.SentenceTokens, "__iter__", lambda self: pytest.fail("it spoke"))
    assert run("speak", "Go.", "--pack", pack, "--out", tmp_path / "a.aac") == 2


def test_an_interrupted_run_leaves_no_half_file(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    render = speaking.render

    def broken(*arguments: object) -> object:
        yield next(iter(render(*arguments)))  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(speaking, "render", broken)
    text = "The owl sees my house now."
    assert run("speak", text, "--pack", pack, "--out", tmp_path / "a.wav") == 130
    assert capsys.readouterr().err == "voicegraft: interrupted\n"
    assert list(tmp_path.iterdir()) == []


def test_every_verb_and_table_names_a_module_that_is_there() -> None:
    from importlib.util import find_spec

    for module in (*verbs.EVALUATIONS.values(), *verbs.RECIPES.values(), *verbs.VERBS.values()):
        assert find_spec(module) is not None, module


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["speak", "--help"], ["ask", "--help"], ["chat", "--help"], ["recipe", "--help"], ["--version"]],
)
def test_help_needs_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom voicegraft.cli import main\n"
        f"try:\n    status = main({arguments!r})\nexcept SystemExit as stop:\n    status = stop.code\n"
        "heavy = {'torch', 'transformers', 'numpy', 'peft', 'soundfile'} & set(sys.modules)\n"
        "assert not heavy, heavy\nsys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(cli.__file__).parents[1]
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout and not done.stderr


def test_a_verb_that_is_not_installed_stands_in_the_help_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(verbs.VERBS, "odd", "no_such_package.command")
    assert run("--help") == 0 and "\n  odd " in capsys.readouterr().out


def test_help_of_a_recipe_begins_with_how_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    for verb, usage in (
        ("graft", "usage: voicegraft graft [CONFIG.yaml] [key=value ...] [--plan]\n"),
        ("recipe align", "usage: voicegraft recipe align [CONFIG.yaml] [key=value ...]\n"),
    ):
        with pytest.raises(SystemExit):
            run(*verb.split(), "--help")
        assert capsys.readouterr().out.startswith(usage)
    assert "of backbone, corpora; --help shows all keys" in refused(capsys, "graft")
    assert "write corpora=[folder]" in refused(capsys, "graft", "backbone=x", "corpora=folder")


def test_no_verb_at_all_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2 and "usage: voicegraft" in capsys.readouterr().err
    assert run("recipe") == 2 and "usage: voicegraft recipe" in capsys.readouterr().err


def test_help_tells_every_verb_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    everything = [*verbs.VERBS, *(f"{group} {verb}" for group, table in verbs.GROUPS.items() for verb in table)]
    for group, table in ((), everything), (("evaluate",), verbs.EVALUATIONS), (("recipe",), verbs.RECIPES):
        assert run(*group, "--help") == 0
        lines = capsys.readouterr().out.splitlines()
        assert group or any(line.startswith("  --version ") for line in lines)
        for verb in table:
            (line,) = (line for line in lines if line.startswith(f"  {verb} "))
            assert len(line.split()) > 3


# Asking and conversations


def lm_of(pack: Path) -> SpeechLM:
    return speaking.Speaker.load(pack).pack.lm


@pytest.mark.parametrize("is_piped", [False, True])
def test_ask_prints_the_answer_and_speaks_it(
    is_piped: bool, pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    piped(monkeypatch, b"Who\nis it?\n")
    with dictated(lm_of(pack), "We see. Go home."):
        assert run("ask", *([] if is_piped else ["Who is it?"]), "--pack", pack, "--voice", "ann", "--seed", 2) == 0
    out, err = capsys.readouterr()
    text, line = out.splitlines()
    assert text == "We see. Go home." and err == ""
    assert line.startswith("answer.wav: ") and "first text after" in line and "first audio after" in line
    samples, _ = soundfile.read("answer.wav", dtype="float32")
    wanted = np.clip(_LOADED[pack].say(text, "ann", 2).samples, -1, 1)
    np.testing.assert_allclose(samples, wanted, atol=1 / 32000)


def test_the_assistant_answers_where_its_llm_is_on_this_machine(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packs, part = tmp_path / "packs", tmp_path / "parts" / "smollm2"
    shutil.copytree(pack, packs / "assistant")
    part.parent.mkdir()
    (packs / "assistant" / "backbone").rename(part)
    header = json.loads((packs / "assistant" / "pack.json").read_text())
    (packs / "assistant" / "pack.json").write_text(json.dumps({**header, "backbone": "part:smollm2"}))
    shutil.copytree(DEFAULT_PACK, packs / "pocket")
    monkeypatch.setattr(packing, "PACKS", packs)
    asked = ("ask", "Peter has a red coat. What colour is the coat of Peter?", "--out", tmp_path / "a.wav")
    assert run(*asked) == 0
    told = capsys.readouterr()
    assert told.out.startswith("red") and "for want of a real one: voicegraft parts get smollm2\n" in told.err
    assert "the part smollm2 (271 MB, Apache-2.0) is missing" in refused(capsys, *asked, "--pack", "assistant")
    monkeypatch.setenv("VOICEGRAFT_PARTS", str(part.parent))
    assert run(*asked, "--max-tokens", 4) in (0, 1)
    told = capsys.readouterr()
    assert not told.out.startswith("red") and "toy" not in told.err
    assert run(*asked, "--pack", "pocket") == 0
    assert capsys.readouterr().out.startswith("red")


def test_ask_bounds_and_varies_the_answer(pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("ask", "Who?", "--pack", pack, "--out", tmp_path / "a.wav")
    with dictated(lm_of(pack), "We see."):
        assert run(*asked, "--max-tokens", 2) == 0
    out, err = capsys.readouterr()
    assert out.startswith("We\n") and err.endswith("the answer was cut after 2 tokens; allow more with max_tokens\n")
    texts = []
    for seed in (1, 1, 2):
        run(*asked, "--temperature", 1, "--seed", seed, "--max-tokens", 12)
        texts.append(capsys.readouterr().out.split(str(tmp_path))[0])
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("answer, told", [("...", "nothing to say aloud"), ("", "the answer is empty")])
def test_an_answer_that_cannot_be_said_has_a_status_of_its_own(
    answer: str, told: str, pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with dictated(lm_of(pack), answer):
        assert run("ask", "Who?", "--pack", pack, "--out", tmp_path / "a.wav") == 1
    out, err = capsys.readouterr()
    assert out == answer + "\n" * bool(answer) and told in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_mistakes_in_asking_show_before_anything_is_written(
    pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wav = tmp_path / "a.wav"
    asked = ("ask", "Who?", "--pack", pack, "--out", wav)
    with dictated(lm_of(pack)):  # a single token would be an IndexError
        for question in ("", "  "):
            assert "nothing was asked" in refused(capsys, "ask", question, "--pack", pack, "--out", wav)
        assert "it has 2018 tokens, 768 fit" in refused(capsys, "ask", "a" * 2000, "--pack", pack, "--out", wav)
        assert "no voice 'eve'" in refused(capsys, *asked, "--voice", "eve")
        assert "does not exist" in refused(capsys, "ask", "Who?", "--pack", pack, "--out", tmp_path / "no" / "a.wav")
        assert "ends in .wav" in refused(capsys, "ask", "Who?", "--pack", pack, "--out", tmp_path / "a.aac")
        assert "expected max_tokens from 1 to 1023" in refused(capsys, *asked, "--max-tokens", 0)
        for number in (-1, "nan", "inf"):
            assert "--temperature of 0 or more" in refused(capsys, *asked, "--temperature", number)
        twin = tmp_path / "twin"
        shutil.copytree(pack, twin)
        adapted = ("ask", "Who?", "--pack", twin, "--text-expert", tmp_path / "expert")
        shutil.copytree(twin / "expert" / "speech", tmp_path / "expert")
        for name in ("adapter_config.json", "adapter_model.safetensors"):  # nobody asks the Hub for what is missing
            (tmp_path / "expert" / name).unlink()
            assert f"expected {name}, found none" in refused(capsys, *adapted)
            shutil.copy(twin / "expert" / "speech" / name, tmp_path / "expert" / name)
        assert "no such program" in refused(capsys, "chat", "--pack", pack, "--play", "no-such-player")
        assert "no voice 'eve'" in refused(capsys, "chat", "--pack", pack, "--voice", "eve", "--reply", "text")
    assert not wav.exists()


def test_chat_answers_what_is_piped_in(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    piped(monkeypatch, b"Who?\r\n/both And who?\n/quit\nNever.\n")
    with dictated(lm_of(pack), "We see.", "Go."):
        assert run("chat", "--pack", pack, "--reply", "text", "--voice", "ann") == 0
    out, err = capsys.readouterr()
    assert out.startswith("We see.\nGo.\nreplies/reply-001.wav: ") and out.count("\n") == 3 and err == ""
    assert soundfile.info("replies/reply-001.wav").duration > 0


def test_chat_at_a_terminal_reads_to_the_end(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("Who?\n"))
    with dictated(lm_of(pack), "We see."):
        assert run("chat", "--pack", pack, "--reply", "text") == 0
    out, err = capsys.readouterr()
    assert out == "> We see.\n> \n" and "/help lists the commands" in err
