"""Lets the text LLM answer transcripts under several tasks: the targets that teach it to answer speech alike.

    voicegraft recipe imitate work=runs/mine backbone=part:smollm2
    voicegraft recipe imitate work=runs/mine url=http://localhost:8000/v1 model=Qwen/Qwen3-8B tasks=[topic,answer,sentiment]
    voicegraft recipe imitate work=runs/mine url=http://localhost:8000/v1 model=big tasks=[spoken_qa] top_k=0 max_tokens=512

MTBI (arXiv 2505.18644): the LLM itself says what it would answer, so no task needs labelled speech. Answers are greedy,
filtered (empty, endless, apologies, refusals), and kept with the likeliest alternatives to each token. Transcripts are those of
the prepared speech, or lines of text files. Rows are made in blocks: stop it at any time, the same command goes on, and with a
higher limit the collection grows. Writes block-*.safetensors, job.json and README.md; ``train_listening`` reads them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn
from tqdm import tqdm

from voicegraft import __version__
from voicegraft.core.config import to_dict
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.core.ledger import differences
from voicegraft.core.runtime import pick_device
from voicegraft.core.text_input import file_lines
from voicegraft.data.listening_tasks import HEARD, ListeningTask, load_tasks, prompt_of
from voicegraft.data.prepared import PreparedSpeech
from voicegraft.data.responses import UNKNOWN, Response, Tokens, block_file, read_responses, write_block
from voicegraft.data.splits import Splits, hash_share
from voicegraft.evaluation.speech.reserved import ReservedTexts
from voicegraft.fusion.backbone import BackboneSettings, backbone_fingerprint, load_backbone
from voicegraft.recipes.command import commit, recipe_main
from voicegraft.teachers.answers import Answer, Answerer, LocalAnswerer, RemoteAnswerer

BLOCK = 64  # rows that are kept together: what a kill may cost
REASONS = {
    "empty": "nothing was answered",
    "endless": "it says the same again and again",
    "apology": "it apologises, or refuses",
    "none": "the LLM found nothing to ask",
    "not_json": "no question and answer in JSON",
}
_APOLOGY = re.compile(
    r"(?:I[’']?m|I am|We are) (?:so |very |really )?(?:sorry|afraid)|\bI apologi[sz]e|\bmy apologies|\bSorry, (?:but|I)\b"
    r"|\bI (?:cannot|can[’']t|am unable|[’']m unable|do ?n[’']t have|do not have) (?:\w+ ){0,3}"
    r"(?:assist|help|fulfil|provide|answer|access|capability|ability|information|context|enough)|\bAs an AI\b",
    re.IGNORECASE,
)
_OBJECT = re.compile(r"\{.*\}", re.DOTALL)


@dataclass(frozen=True)
class ImitateConfig:
    work: str = "runs/mine"  # the work folder with prepared speech
    texts: tuple[Path, ...] = ()  # text files with a transcript a line, instead of the speech's
    out: str = ""  # receives the responses; empty: work/imitation
    backbone: str = ""  # the LLM that is to hear, whose tokens the answers get; empty: work/backbone
    loading: BackboneSettings = field(default_factory=BackboneSettings)
    url: str = ""  # of a server with OpenAI's interface that answers; empty: the backbone does, here
    model: str = ""  # its name on that server
    key: str = ""  # environment variable that holds the server's key
    parallel: int = 8  # requests at a time to the server
    tasks_file: Path | None = None  # YAML of tasks and wordings; empty: the packaged one
    tasks: tuple[str, ...] = ()  # empty: those of training that a small LLM can do
    wordings: Literal["trained", "held_out"] = "trained"
    wordings_per_text: int = 1  # of each task, drawn for each text
    limit: int = 0  # rows to make, rounded up to whole blocks of 64; 0: all
    held_back: int = 200  # transcripts that training holds back, to validate on; 0 for none
    min_words: int = 3  # of a transcript
    max_tokens: int = 24  # of an answer; longer ones are cut
    top_k: int = 32  # alternatives that are kept of each token; 0: none, then only cross-entropy can be learnt
    batch: int = 32  # prompts that the backbone reads together
    licence: str = "not stated"  # of the transcripts
    licences: dict[str, str] = field(default_factory=dict)  # by the beginning of their origin, where they differ
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.url and (not self.url.startswith(("http://", "https://")) or not self.model):
            raise ValueError(
                f"expected the url of a server, http or https, and the model's name there, got {self.url!r}"
            )
        if min(self.max_tokens, self.batch, self.wordings_per_text, self.parallel) < 1 or self.top_k < 0:
            raise ValueError(
                "expected max_tokens, batch, parallel and wordings_per_text of at least 1, and top_k of at least 0"
            )


def imitate(config: ImitateConfig) -> None:
    """
    Raises:
        VoicegraftError: no transcripts, no such task, another job in the folder, or a server that does not answer.
    """
    out = Path(config.out) if config.out else Path(config.work) / "imitation"
    tasks = _tasks(config)
    every = _asked(config, tasks)
    if not every:
        raise VoicegraftError("no transcript suits any of the tasks: give more of them, or name other tasks")
    backbone, tokenizer = load_backbone(config.backbone or Path(config.work) / "backbone", config.loading)
    name = config.model or Path(config.backbone or "backbone").name
    _begin(config, out, tasks, every, f"{name} {config.url}" if config.url else backbone_fingerprint(backbone))
    answerer: Answerer
    if config.url:
        answerer = RemoteAnswerer(config.url, name, tokenizer, config.key, config.parallel)
    else:
        nn.Module.to(backbone, pick_device(config.device))
        answerer = LocalAnswerer(backbone, tokenizer, name, config.batch)
    blocks = [every[at : at + BLOCK] for at in range(0, min(config.limit or len(every), len(every)), BLOCK)]
    with tqdm(total=sum(map(len, blocks)), desc="responses", unit="row", mininterval=5) as bar:
        for number, rows in enumerate(blocks):
            if not block_file(out, number).is_file():
                prompts = [prompt_of(row.wording, row.text) for row in rows]
                answers = answerer.answer(prompts, config.max_tokens, config.top_k)
                judged = [judge(row, a, tasks[row.task]) for row, a in zip(rows, answers, strict=True)]
                # What is taken out of an answer was not written so.
                tokens = [
                    _tokens(a) if row.reply == a.text else UNKNOWN for row, a in zip(judged, answers, strict=True)
                ]
                named = [replace(row, writer=answerer.name) for row in judged]
                write_block(out, number, list(zip(named, tokens, strict=True)))
            bar.update(len(rows))
    _report(out)


def _tokens(answer: Answer) -> Tokens:
    return Tokens(np.asarray(answer.ids, dtype=np.int32), answer.top_ids, answer.top_logprobs)


def judge(row: Response, answer: Answer, task: ListeningTask) -> Response:
    """The row with its reply, and why it is not used, if it is not; of a made-up question: that as its wording."""
    row = replace(row, reply=answer.text, ended=answer.ended)
    if not any(map(str.isalnum, row.reply)):
        return replace(row, reason="empty")
    if task.form == "qa":
        return _question_and_answer(row)
    words = row.reply.lower().split()
    grams = Counter(zip(words, words[1:], words[2:], strict=False))
    if max(grams.values(), default=0) > 2 or max(Counter(row.reply.splitlines()).values()) > 2:
        return replace(row, reason="endless")
    apologises = _APOLOGY.search(row.reply) and not _APOLOGY.search(
        row.text
    )  # as a speaker may, whose words it repeats
    return replace(row, reason="apology" if apologises else "")


def _question_and_answer(row: Response) -> Response:
    """VoiceTextBlender's spoken QA: one JSON object with a question and its answer, or "none" for text without sense."""
    found = _OBJECT.search(row.reply)
    if not found:
        return replace(row, reason="none" if "none" in row.reply.lower() else "not_json")
    try:
        made = json.loads(found[0])
        question, reply = str(made["question"]).strip(), str(made["answer"]).strip()
    except (ValueError, LookupError, TypeError):
        return replace(row, reason="not_json")
    if not question or not reply or HEARD in question:
        return replace(row, reason="not_json")
    return replace(row, wording=f"{question}\n{HEARD}", reply=reply, ended=True)


def _tasks(config: ImitateConfig) -> dict[str, ListeningTask]:
    tasks = load_tasks(config.tasks_file, config.tasks)
    if not config.tasks:
        tasks = {name: task for name, task in tasks.items() if task.small and task.trained and task.form == "text"}
    if lacking := [name for name, task in tasks.items() if not getattr(task, config.wordings)]:
        raise VoicegraftError(f"there are no {config.wordings} wordings of {', '.join(lacking)}; leave them out")
    return tasks


def _asked(config: ImitateConfig, tasks: Mapping[str, ListeningTask]) -> list[Response]:
    """All rows without their replies, in an order that a higher limit only goes on with; held back ones come first."""
    reserved, rows = ReservedTexts(), []
    for text, split, origin in _transcripts(config):
        if len(text.split()) < config.min_words or text in reserved:
            continue
        licence = next((own for begin, own in config.licences.items() if origin.startswith(begin)), config.licence)
        for task in tasks.values():
            if not task.suits(text):
                continue
            wordings: Sequence[str] = getattr(task, config.wordings)
            drawn = sorted(wordings, key=lambda wording: hash_share(f"{task.name} {wording} {text}"))
            for wording in drawn[: config.wordings_per_text]:
                rows.append(Response(task.name, wording, text, "", split, origin, licence))
    rows.sort(key=lambda row: (row.split == "train", hash_share(f"{row.task} {row.wording} {row.text}")))
    return rows


def _transcripts(config: ImitateConfig) -> Iterator[tuple[str, str, str]]:
    """(text, split, origin), each text once; of those held back, as many as are wanted."""
    found: dict[str, tuple[str, str]] = {}
    if config.texts:
        for path in config.texts:
            lines = [line.strip() for line in file_lines(path)]
            splits = Splits.over(lines)
            for number, line in enumerate(lines, 1):
                found.setdefault(line, (splits(line), f"{path.name}:{number}"))
    else:
        for clip in PreparedSpeech(Path(config.work)).clips:
            corpus = clip.folder.name.rpartition("-")[0] or clip.folder.name
            found.setdefault(clip.utterance.text, (clip.utterance.split, f"{corpus}/{clip.utterance.id}"))
    held = sorted((text for text, (split, _) in found.items() if split != "train"), key=hash_share)[: config.held_back]
    for text, (split, origin) in found.items():
        if split == "train" or text in {*held}:
            yield text, split, origin


def _begin(
    config: ImitateConfig, out: Path, tasks: Mapping[str, ListeningTask], rows: Sequence[Response], writer: str
) -> None:
    """Notes what is about to be done; refuses a folder that holds other responses."""
    job: dict[str, Any] = {
        "writer": writer,
        "transcripts": hashlib.sha256("\n".join(row.text for row in rows).encode()).hexdigest()[:16],
        "tasks": {name: to_dict(task) for name, task in tasks.items()},
        **{key: getattr(config, key) for key in ("wordings", "wordings_per_text", "max_tokens", "top_k")},
    }
    path = out / "job.json"
    if not path.is_file():
        write_text(path, json.dumps({**job, "version": __version__, **commit()}, indent=2, ensure_ascii=False))
    elif changed := differences(json.loads(path.read_text(encoding="utf-8")), job):
        raise VoicegraftError(
            f"{out} holds responses made otherwise ({'; '.join(changed)}): choose another out, or delete the folder"
        )


def _report(out: Path) -> None:
    """README.md of the folder, and a line for whoever waits."""
    rows = [row for row, _ in read_responses(out, kept=False)]
    kept = [row for row in rows if not row.reason]
    reasons = Counter(row.reason for row in rows if row.reason)
    told = ", ".join(f"{reason}: {count}" for reason, count in reasons.most_common())
    short = f"{len(kept)} responses of {len(rows)}" + (f"; rejected {told}" if told else "")
    lines = [
        f"# {out.resolve().name}: what an LLM answers to transcripts",
        "",
        f"{short}. By {rows[0].writer or 'people'}, greedily; made by voicegraft {__version__}.",
        "",
        "| task | used | rejected | cut | mean words |",
        "|---|---|---|---|---|",
    ]
    for task in dict.fromkeys(row.task for row in rows):
        used = [row for row in kept if row.task == task]
        words = np.mean([len(row.reply.split()) for row in used]) if used else 0.0
        lines.append(
            f"| {task} | {len(used)} | {sum(row.task == task for row in rows) - len(used)} | "
            f"{sum(not row.ended for row in used)} | {words:.1f} |"
        )
    lines += ["", "| rejected because | rows |", "|---|---|", *(f"| {REASONS[r]} | {n} |" for r, n in reasons.items())]
    origins = Counter((row.origin.partition("/")[0].partition(":")[0], row.licence) for row in kept)
    lines += ["", "| transcripts of | licence | rows |", "|---|---|---|"]
    lines += [f"| {origin} | {licence} | {count} |" for (origin, licence), count in sorted(origins.items())]
    write_text(out / "README.md", "\n".join(lines))
    print(f"{short}; {out}")


main = recipe_main(imitate, __doc__)


if __name__ == "__main__":
    main()
