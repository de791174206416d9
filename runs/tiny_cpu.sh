#!/usr/bin/env bash
# A voice trained end to end in five minutes on two CPU cores, without a network; docs/tutorial.md explains each step.
#
#   bash runs/tiny_cpu.sh [WORK_FOLDER]        (default: runs/tiny)
#
# Stop it when you like: the same command goes on from there. A step that fails ends the script.
set -euo pipefail
mkdir -p "${1:-$(dirname "$0")/tiny}"
work=$(cd "${1:-$(dirname "$0")/tiny}" && pwd)
cd "$(dirname "$0")/.."
[ ! -x .venv/bin/voicegraft ] || PATH="$PWD/.venv/bin:$PATH"
export OMP_NUM_THREADS=1

step() { printf '\n=== %s\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }
fail() { echo "tiny_cpu.sh: $*" >&2; exit 1; }

command -v voicegraft >/dev/null || fail "there is no voicegraft here; make tutorial installs it, or: pip install -e '.[evaluate]'"
python -c 'import pocketsphinx, resemblyzer, speechmos' 2>/dev/null || fail "the judges are missing: pip install 'voicegraft[evaluate]'"

step "1 of 4: recordings. The voice that ships reads 60 sentences, in two processes"
python - "$work" <<'PY'
import json, sys
from pathlib import Path

work = Path(sys.argv[1])
suite = Path("voicegraft/evaluation/speech/data/robust-1000.jsonl").read_text(encoding="utf-8").splitlines()
rows = [json.loads(line) for line in suite]
texts = [row["text"] for row in rows if row["kind"] == "statement" and len(row["text"]) <= 50][:60]
for part in range(2):
    folder = work / "recordings" / f"part{part}"
    folder.mkdir(parents=True, exist_ok=True)
    mine = texts[part::2]
    (work / f"part{part}.txt").write_text("\n".join(mine) + "\n", encoding="utf-8")
    for number, text in enumerate(mine, start=1):
        (folder / f"{number:04d}.txt").write_text(text + "\n", encoding="utf-8")
PY
readers=()
trap 'kill ${readers[@]+"${readers[@]}"} 2>/dev/null || true' EXIT
for part in 0 1; do
    run voicegraft speak --lines "$work/part$part.txt" --out-dir "$work/recordings/part$part" &
    readers+=($!)
done
for reader in "${readers[@]}"; do wait "$reader" || fail "a reader failed"; done
readers=()

step "2 of 4: the graft. A text LLM and the recordings become a voice pack"
run voicegraft graft tiny/graft.yaml backbone=voicegraft/packs/pocket/backbone corpora="[$work/recordings]" \
    corpus.speaker=tiny work="$work" out="$work/pack"

step "3 of 4: the new pack speaks"
rm -f "$work/hello.wav"
run voicegraft speak "The market was open in the morning." --guard watch --pack "$work/pack" --out "$work/hello.wav"
[ -s "$work/hello.wav" ] || fail "no sound was made"

step "4 of 4: and its text is the untouched model's"
question="Peter has a red coat. What colour is the coat of Peter?"
run voicegraft ask "$question" --guard watch --pack "$work/pack" --out "$work/answer.wav"

grep -m1 -A5 '^| stage' "$work/pack/EVALUATION.md" || fail "there is no evaluation"
cat <<END

Listen to it: $work/hello.wav
What you hear learnt from two minutes of another voice's speech, in a few minutes of training. It holds its place in the text and
keeps its speaker, but mumbles: WER in the table above is the share of words that a recogniser gets wrong. An hour of recordings and
an hour of one core make a voice (docs/measured/graft.md).
END
