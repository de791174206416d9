"""Names on the Hub, against a server on this machine that answers as the Hub does."""

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from tests import tiny
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.hub import is_hub_name, resolve
from voicegraft.tokenizers.codec import Codec

ROOT = Path(__file__).resolve().parents[2]
SHA = "a" * 40


class Hub(BaseHTTPRequestHandler):
    """Repositories are folders: ``good/...`` are given, ``gated/...`` need a licence, the rest is not there."""

    repositories: Path

    def do_GET(self) -> None:
        parts = unquote(urlparse(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            repository, rest = "/".join(parts[2:4]), parts[4:]
            folder = self.repositories / repository
            if not folder.is_dir():
                return self.refuse(404, "RepoNotFound")
            if rest[:1] == ["revision"] and rest[1] not in ("main", "v1", SHA):
                return self.refuse(404, "RevisionNotFound")
            files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
            if rest[:1] == ["tree"]:
                oid = "b" * 40
                return self.give(
                    [
                        {"type": "file", "path": str(p.relative_to(folder)), "size": p.stat().st_size, "oid": oid}
                        for p in files
                    ]
                )
            return self.give({"id": repository, "sha": SHA, "siblings": []})
        if parts[0] == "gated":
            return self.refuse(401, "GatedRepo")
        repository, path = "/".join(parts[:2]), "/".join(parts[4:])  # organisation/name/resolve/sha/path
        data = (self.repositories / repository / path).read_bytes()
        return self.answer(200, data, {"ETag": f'"{path.replace("/", "-")}"', "X-Repo-Commit": SHA})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """What the Hub keeps of files: a digest of the large ones."""
        self.rfile.read(int(self.headers["Content-Length"]))
        data = (self.repositories / "good" / "llama" / "model.safetensors").read_bytes()
        large = {"size": len(data), "oid": hashlib.sha256(data).hexdigest(), "pointerSize": 1}
        file = {"type": "file", "oid": "b" * 40, "size": 1}
        self.give([{**file, "path": "model.safetensors", "lfs": large}, {**file, "path": "config.json"}])

    def give(self, value: object) -> None:
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def refuse(self, status: int, code: str) -> None:
        self.answer(status, b"{}", {"X-Error-Code": code, "Content-Type": "application/json"})

    def answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("hub")
    Hub.repositories = folder
    tiny.write_backbone(folder / "good" / "llama")
    (folder / "good" / "llama" / "own.py").write_text("raise SystemExit\n")
    (folder / "good" / "llama" / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "good" / "llama" / "original").mkdir()
    (folder / "good" / "llama" / "original" / "consolidated.safetensors").write_bytes(b"again")
    tiny.codec().save(folder / "good" / "pack" / "codec", {})
    tiny.write_backbone(folder / "gated" / "llama")
    (folder / "good" / "pickled").mkdir()
    (folder / "good" / "pickled" / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "good" / "pickled" / "config.json").write_text("{}")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


RESOLVE = """
import json, sys
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.hub import resolve
assert not {"torch", "huggingface_hub"} & sys.modules.keys(), "slow to import"
found = {}
for name in json.load(sys.stdin):
    try:
        found[name] = str(resolve(name))
    except VoicegraftError as error:
        found[name] = f"refused: {error}"
print(json.dumps(found))
"""
LOAD = """
import json, sys
from voicegraft.fusion.backbone import load_backbone
from voicegraft.tokenizers.codec import Codec
backbone, tokenizer = load_backbone("good/llama")
codec = Codec.from_pretrained("hub:good/pack@v1", subfolder="codec")
print(json.dumps([type(backbone).__name__, len(tokenizer), codec.spec.fingerprint]))
"""


FETCH = """
import json, sys
from pathlib import Path
from voicegraft.core.hub import fetch, hub_digests
paths = ["model.safetensors", "config.json"]
folder = fetch("good/llama", "v1", paths, Path(json.load(sys.stdin)[0]))
print(json.dumps([sorted(p.name for p in folder.iterdir() if p.is_file()), hub_digests("good/llama", "v1", paths)]))
"""


def elsewhere(script: str, endpoint: str, home: Path, names: list[str] | None = None, offline: bool = False) -> object:
    """In a process of its own: the Hub's client reads its environment once."""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    environment |= {"HF_HUB_OFFLINE": str(int(offline)), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy", "HF_TOKEN"):
        environment.pop(name, None)
    run = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(names or []),
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_names_are_fetched_once_and_every_failure_says_what_to_do(endpoint: str, tmp_path: Path) -> None:
    names = ["good/llama", "hub:good/llama@v1", "good/llama@v9", "gated/llama", "good/none", "good/pickled", "a--b/c"]
    found = elsewhere(RESOLVE, endpoint, tmp_path, names)
    assert isinstance(found, dict)
    folder = Path(found["good/llama"])
    assert folder == Path(found["hub:good/llama@v1"]) and (folder / "model.safetensors").is_file()
    assert not [*folder.rglob("*.py"), *folder.rglob("*.bin"), *folder.rglob("original")]
    refusals = {name: text for name, text in found.items() if text.startswith("refused")}
    for name, words in {
        "good/llama@v9": "it has no revision v9; check the branch",
        "gated/llama": f"accepted first: do so at {endpoint}/gated/llama, then `hf auth login`",
        "good/none": "no such public repository; check the spelling, and `hf auth login` if it is private",
        "good/pickled": "has no safetensors weights, and pickled ones (.bin, .pt) are never loaded",
        "a--b/c": "that is no name of a repository; expected organisation/model",
    }.items():
        assert words in refusals.pop(name)
    assert not refusals
    for offline, why in ((True, "HF_HUB_OFFLINE is set"), (False, "it cannot be reached")):
        again = elsewhere(RESOLVE, "http://127.0.0.1:9", tmp_path, ["good/llama", "good/other"], offline)
        assert isinstance(again, dict) and Path(again["good/llama"]) == folder
        assert f"{why} and the cache does not hold all of it; connect once" in again["good/other"]


def test_files_are_fetched_into_a_folder_with_the_digests_that_the_hub_keeps(endpoint: str, tmp_path: Path) -> None:
    target = tmp_path / "part"
    files, digests = elsewhere(FETCH, endpoint, tmp_path / "home", [str(target)])  # type: ignore[misc]
    assert files == ["config.json", "model.safetensors"]
    assert digests == {"model.safetensors": hashlib.sha256((target / "model.safetensors").read_bytes()).hexdigest()}


@pytest.mark.slow
def test_backbones_and_parts_load_by_name(endpoint: str, tmp_path: Path) -> None:
    fingerprint = Codec.load(Hub.repositories / "good" / "pack" / "codec").spec.fingerprint
    assert elsewhere(LOAD, endpoint, tmp_path) == ["LlamaForCausalLM", 258, fingerprint]


def test_folders_go_before_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve("some/model") == Path("some/model") == resolve(Path("some/model"))
    assert is_hub_name("hub:some/model") and not is_hub_name("some/model")


@pytest.mark.parametrize(
    "name", ["/no/where", "./model", "a/b/c", "~/no-such-model", "", "C:\\model", Path("some/model")]
)
def test_paths_that_are_not_there_are_not_looked_for_on_the_hub(name: str | Path) -> None:
    with pytest.raises(VoicegraftError, match="there is no such folder; check the path"):
        resolve(name)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full; make room in .*, or set HF_HOME"),
        (OSError("the line\nwas cut"), "the line was cut; try again"),
    ],
)
def test_failures_of_disk_and_line_are_clear_errors(
    failure: OSError, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise failure

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(VoicegraftError, match=message):
        resolve("some/model")


def test_parts_save_and_load_under_the_fields_own_names(tmp_path: Path) -> None:
    codec = tiny.codec().half().float()
    codec.save_pretrained(tmp_path / "pack" / "codec")
    again = Codec.from_pretrained(tmp_path / "pack", subfolder="codec")
    assert isinstance(again, Codec) and again.spec.fingerprint == codec.spec.fingerprint
