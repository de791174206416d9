"""The paper's table, small: what each way of adding a voice to a text LLM keeps, gains and costs.

    python -m benchmarks.paper_table [CONFIG.yaml] [key=value ...]          (default: the pocket table)

Runs from trained parts (docs/fusion.md names the recipes): every system of the config answers questions, continues held-out
text, reads sentences aloud and answers questions aloud, under the same judges. Writes ``out/report.md``, ``report.json`` and
plots. An interrupted run goes on where it stopped; a system that was added is measured alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks import spoken_qa
from benchmarks.systems_table import write_table
from voicegraft.core.artifacts import file_digest
from voicegraft.core.config import to_dict
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.ledger import Ledger
from voicegraft.core.runtime import pick_device, single_thread
from voicegraft.evaluation.judges.base import Judges
from voicegraft.evaluation.judges.load import load_judges
from voicegraft.evaluation.reports.summary import summarize
from voicegraft.evaluation.speech.items import Clip, Item, mean_voices, open_rows, run_items
from voicegraft.evaluation.speech.recordings import find_recordings
from voicegraft.evaluation.speech.test_sets import read_prompts
from voicegraft.evaluation.tasks.base import Subject
from voicegraft.evaluation.tasks.harness import PUBLIC
from voicegraft.evaluation.tasks.held_out import OWN, PERPLEXITY, HeldOut, TextTasksConfig
from voicegraft.evaluation.tasks.routing import confusion
from voicegraft.evaluation.tasks.short_answers import ShortAnswers, held_out_questions
from voicegraft.fusion.decoders.folded import FoldedDecoder
from voicegraft.fusion.experts import SPEECH, TEXT
from voicegraft.fusion.speech_lm import SpeechLM
from voicegraft.inference.engine import sentence_tokens
from voicegraft.inference.pack import DEFAULT_PACK, open_pack
from voicegraft.inference.speaker import Speaker
from voicegraft.recipes.command import CONFIGS, recipe_config

POCKET = CONFIGS / "pocket" / "reproduce.yaml"


@dataclass(frozen=True)
class System:
    """One row of the table; folders are inside ``work``."""

    name: str
    expert: str = "expert"  # folder of the speech expert
    text_expert: str = ""  # PEFT's adapter folder; empty: the identity
    # Which gates hold: the router's, the task's expert (the oracle), all alike, one expert whatever the task, or none at all.
    gates: Literal["router", "task", "uniform", "text", "speech", "none"] = "task"
    router: str = ""  # folder of the router
    num_prompts: int = 0  # sentences to read aloud; 0: as many as the others (what cannot speak takes long to say so)

    def __post_init__(self) -> None:
        if (self.gates == "router") != bool(self.router):
            raise ValueError(f"{self.name}: gates: router goes with the folder of a router, and no other gates do")


@dataclass(frozen=True, kw_only=True)
class ReproduceConfig(TextTasksConfig):
    systems: tuple[System, ...] = ()  # the rows; the first is what the others are compared with
    work: str = "runs/pocket"  # with the trained parts and the unpacked corpora
    pack: str = ""  # whose acoustic LM and vocoder speak; empty: the pocket pack
    out: str = "runs/pocket/reproduce"
    prompts: str = "data/prompts/harvard_001-360.txt"  # sentences to read aloud
    num_prompts: int = 100
    recordings: tuple[str, ...] = ("corpora/kathleen",)  # in work: whose voice is compared with
    voice: str = ""  # empty: the pack's default
    spoken_per_kind: int = 20  # questions that are answered aloud
    tasks: tuple[str, ...] = ()  # public ones beside the own: arc_easy, mmlu, gsm8k, boolq (docs/evaluation.md)
    num_routed: int = 1200  # held-out text prompts, and half as many sentences, that the router decides on
    device: str = "auto"


def main(argv: list[str] | None = None) -> None:
    single_thread()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not any("=" not in a for a in arguments):
        arguments.insert(0, str(POCKET))
    print(reproduce(recipe_config(ReproduceConfig, __doc__, arguments)))


def reproduce(
    config: ReproduceConfig, judges: Judges | None = None, chooser: spoken_qa.ChoiceRecognizer | None = None
) -> str:
    """Measures all systems that have not been measured yet, and returns the report as Markdown.

    judges, chooser: None loads the real ones.
    Raises VoicegraftError for parts that are missing or do not fit together, and for missing packages.
    """
    if not config.systems:
        raise VoicegraftError("a table needs systems: name them in the configuration, as pocket/reproduce does")
    work, out = Path(config.work), Path(config.out)
    _check_parts(config)
    config.check(config.tasks, among=tuple(PUBLIC))
    bench = Bench(config, judges or load_judges(), chooser or spoken_qa.PocketSphinxChooser())
    results = {system.name: bench.measure(system) for system in config.systems}
    about = {
        "work": work.name,
        "sentences": config.num_prompts,
        "questions per kind": config.questions_per_kind,
        "spoken questions": len(results[config.systems[0].name]["text"]["spoken_questions_written"]),
        "clean synthetic answers heard rightly": bench.ceiling(),
    }
    return write_table(out, results, about)


def _check_parts(config: ReproduceConfig) -> None:
    """All that is missing, before hours of measuring."""
    work = Path(config.work)
    wanted = {"backbone": "train_backbone"}
    for system in config.systems:
        wanted[f"{system.expert}/rows"] = f"train_speech out={system.expert}"
        wanted |= {system.text_expert: "train_text"} if system.text_expert else {}
        wanted |= {system.router: f"train_router out={system.router}"} if system.router else {}
    missing = [f"{name} (voicegraft recipe {recipe})" for name, recipe in wanted.items() if not (work / name).is_dir()]
    if missing:
        raise VoicegraftError(
            f"{work} lacks trained parts: {', '.join(missing)}; train them or leave their systems out"
        )


class Bench:
    """What every system is measured on, loaded once."""

    def __init__(self, config: ReproduceConfig, judges: Judges, chooser: spoken_qa.ChoiceRecognizer):
        self.config, self.work = config, Path(config.work)
        self.device = pick_device(config.device)
        self.judges, self.chooser = judges, chooser
        self.held_out = HeldOut.read(config, self.work / "corpora", config.tasks)
        self.to_speak = self.questions(config.spoken_per_kind, config.seed)
        self.prompts = read_prompts(Path(config.prompts))
        self.pack = open_pack(Path(config.pack) if config.pack else DEFAULT_PACK)
        self.voice = config.voice or self.pack.header.default_voice
        humans = find_recordings([self.work / name for name in config.recordings], [self.voice])
        clips = {v: [h.read(c, 24_000) for c in h.clips] for v, h in humans.items()}
        self.voices = mean_voices(clips, self.judges.speaker)

    def questions(self, per_kind: int, seed: int) -> ShortAnswers:
        asked = held_out_questions(self.work / "corpora", per_kind, seed)
        return dataclasses.replace(self.held_out.own, questions=asked)

    def measure(self, system: System) -> dict[str, Any]:
        """All columns of one system; each part is kept in a file and not measured twice."""
        lm = self.load(system)
        identity = {**to_dict(system), "weights": _digest(self.work, system), "config": _what_matters(self.config)}

        known = Ledger(Path(self.config.out) / "systems" / f"{_slug(system.name)}-{_key(identity)}.jsonl", identity)

        def kept(name: str, measured: Callable[..., dict[str, Any]], *arguments: object) -> Any:
            print(f"{system.name}: {name}", flush=True)
            return known.get(name, partial(measured, *arguments))

        result: dict[str, Any] = {"size": {"trained": self.trained(lm, system)}}
        subject = Subject.writing(lm)
        if system.gates == "none":
            subject = dataclasses.replace(subject, gated=lambda: lm.mole.gated(None))
        result["text"] = kept("text", self.text, subject)
        for name in self.config.tasks:
            result.setdefault("tasks", {}).update(kept(name, self.tasks, subject, (name,)))
        if system.gates != "none":
            speaker = Speaker(dataclasses.replace(self.pack, lm=lm), self.device)
            prompts = self.prompts[: system.num_prompts or self.config.num_prompts]
            sounds = self.sounds(speaker, prompts, identity)
            result["speech"] = kept("speech", self.speech, speaker, prompts, sounds)
            if not system.num_prompts:
                written = result["text"]["spoken_questions_written"]
                result["spoken_qa"] = kept("spoken QA", self.spoken, speaker, written)
            result["cost"] = kept("cost", decode_cost, lm)
        if lm.router is not None:
            result["router"] = kept("router", self.routing, lm)
        return result

    def load(self, system: System) -> SpeechLM:
        router = self.work / system.router if system.router else None
        text_expert = self.work / system.text_expert if system.text_expert else None
        lm = SpeechLM.load(self.work / "backbone", self.work / system.expert, router, text_expert)
        if system.gates == "uniform":
            lm.fixed = torch.full((len(lm.mole.names),), 1 / len(lm.mole.names))
        elif system.gates in (TEXT, SPEECH):
            lm.fixed = system.gates
        return lm.to(self.device)

    def trained(self, lm: SpeechLM, system: System) -> int:
        """Parameters that the system needs beside the backbone's."""
        if system.gates == "none":
            return 0
        sizes = dict.fromkeys(lm.mole.names, 0)
        for _, layer in lm.mole.layers():
            for expert, (own, _) in layer.alone.items():
                sizes[lm.mole.names[expert]] += layer.down[own].numel() + layer.up[:, own].numel()
        loras = sizes[system.gates] if system.gates in sizes else sum(sizes.values())
        rows = 0 if system.gates == TEXT else sum(p.numel() for p in lm.speech_embedding.parameters())
        router = 0 if lm.router is None else sum(p.numel() for p in lm.router.parameters())
        return loras + rows + router

    def text(self, subject: Subject) -> dict[str, Any]:
        return {
            "tasks": self.tasks(subject, (OWN, PERPLEXITY)),
            "spoken_questions_written": self.to_speak.answers(subject),
        }

    def tasks(self, subject: Subject, names: Sequence[str]) -> dict[str, Any]:
        return {part: dataclasses.asdict(found) for part, found in self.held_out.measure(subject, names).items()}

    def sounds(self, speaker: Speaker, prompts: list[str], identity: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the sounds of the prompts depend on: systems whose gates let one expert speak alone make the same samples."""
        lm, options = speaker.pack.lm, speaker.pack.header.options
        said = (
            part.text for text in prompts for form in speaker.pack.frontend.sentences([text]) for part in form.parts
        )
        begins = [sentence_tokens(lm, text, self.voice, options).machine.prompt for text in said]
        gates = [lm.start(begin).decoding.gates for begin in begins]
        if any(gate != SPEECH for gate in gates if isinstance(gate, str)) or not all(isinstance(g, str) for g in gates):
            return identity
        weights = {
            n: d for n, d in identity["weights"].items() if n.startswith(("backbone/", f"{identity['expert']}/"))
        }
        return {
            "alone": SPEECH,
            "weights": weights,
            "config": identity["config"],
            "num_prompts": identity["num_prompts"],
        }

    def speech(self, speaker: Speaker, prompts: list[str], sounds: Mapping[str, Any]) -> dict[str, Any]:
        def say(text: str) -> Clip:
            return Clip.of(speaker.say(text, voice=self.voice))

        items = [Item("speech", self.voice, f"{n:04d}", t, partial(say, t)) for n, t in enumerate(prompts, start=1)]
        rows = open_rows(Path(self.config.out) / "sounds" / f"{_key(sounds)}.jsonl", {"sounds": sounds})
        return summarize(run_items(items, self.judges, self.voices, rows))[0]

    def spoken(self, speaker: Speaker, written: list[str]) -> dict[str, Any]:
        def say(text: str) -> spoken_qa.Sound:
            s = speaker.say(text, voice=self.voice)
            return s.samples, s.sample_rate

        answers = spoken_qa.listen(self.to_speak.questions, written, say, self.chooser)
        return {**spoken_qa.summary(answers), "answers": [dataclasses.asdict(a) for a in answers]}

    def routing(self, lm: SpeechLM) -> dict[str, Any]:
        """Which expert the router gives held-out prompts of both tasks."""
        count, seed = self.config.num_routed, self.config.seed
        texts = [lm.text_ids(line) for piece in self.held_out.texts.pieces for line in piece][: count // 4]
        texts += self.questions(count // 5, seed + 1).prompts(lm.tokenizer)[: count - len(texts)]
        voices, lines = self.pack.acoustic.config.voices, self.prompts[: count // 2]
        sentences = [(line, voices[n % len(voices)]) for n, line in enumerate(lines * 2)]
        return confusion(lm, texts, sentences[: count // 2])

    def ceiling(self) -> float | None:
        """Share of clean synthetic answers that the recogniser hears rightly; None where there is no flite to say them."""
        return spoken_qa.ceiling(self.to_speak.questions, self.chooser) if shutil.which("flite") else None


@torch.inference_mode()
def decode_cost(lm: SpeechLM, turns: int = 15, turn_steps: int = 8, rounds: int = 4) -> dict[str, Any]:
    """Time of a decoding step of speech, as a ratio to the bare backbone's on the same engine, in turns side by side.

    Gates that hold for a sequence are folded into a copy of the weights; others are worked out in the layers. The clock is
    the process's CPU time, so that another job on the machine hits both alike.
    """
    config = lm.speech_embedding.config
    x = (
        torch.randn(1, 1, config.width, device=lm.speech_embedding.token.weight.device)
        * lm.speech_embedding.token.weight.std()
    )
    text = lm.embed_text(torch.tensor([lm.text_ids("The river ran slowly past the old mill.")], device=x.device))

    def ours() -> Callable[[], object]:
        state = lm.begin(text, x)
        return lambda: lm.hidden(x, state)

    def bare() -> Callable[[], object]:
        state = lm.decoder.start(None)
        lm.decoder.step([torch.cat([text, x], 1)[0]], [state])
        return lambda: lm.decoder.step([x[0]], [state])

    def seconds(step: Callable[[], object]) -> float:
        started = time.process_time()
        for _ in range(turn_steps):
            step()
        return (time.process_time() - started) / turn_steps

    took = []
    for _ in range(rounds):
        steps = ours(), bare()
        for turn in range(turns):
            first, second = (seconds(step) for step in (steps if turn % 2 else steps[::-1]))
            took.append((first, second) if turn % 2 else (second, first))
    return {
        "ratio": statistics.median(own / other for own, other in took),
        "step_ms": 1000 * statistics.median(own for own, _ in took),
        "engine": "merged copy" if isinstance(lm.decoder, FoldedDecoder) else "fused layers",
    }


def _key(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def _slug(name: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def _what_matters(config: ReproduceConfig) -> dict[str, Any]:
    """The settings that a system's numbers depend on, besides the system."""
    names = [
        "num_prompts",
        "voice",
        "spoken_per_kind",
        "num_routed",
        *(f.name for f in dataclasses.fields(TextTasksConfig)),
    ]
    return {name: getattr(config, name) for name in names}


def _digest(work: Path, system: System) -> dict[str, str]:
    """Which weights the system's numbers are of."""
    folders = [name for name in ("backbone", system.expert, system.text_expert, system.router) if name]
    return {
        str(path.relative_to(work)): file_digest(path)[:16]
        for name in folders
        for path in sorted((work / name).rglob("*.safetensors"))
    }


if __name__ == "__main__":
    main()
