"""Trains the router on mixed text and speech tasks, with the backbone and both experts frozen.

    voicegraft recipe train_router pocket/router work=runs/pocket

Three kinds of tasks: questions with answers, sentences to be continued, and sentences to be spoken. The loss is what the
mixture says wrongly (next token in text, next speech token in speech), and, weighted by ``supervision``, the choice of the
wrong expert. Writes ``work/router``.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voicegraft.core.runtime import pick_device
from voicegraft.data.batches import LengthBuckets, collate
from voicegraft.data.chat import AnsweredQuestion, sentence_ids
from voicegraft.data.lexicon import Lexicon
from voicegraft.data.prepared import PreparedSpeech, newest_alignments
from voicegraft.data.question_batches import QuestionBatches
from voicegraft.data.questions import QuestionsConfig
from voicegraft.data.speech_sequences import Context, Guided, Plain, Spelling, sentences_of
from voicegraft.data.tokens import Tokens
from voicegraft.fusion.depth import lower_layers
from voicegraft.fusion.experts import SPEECH, TEXT
from voicegraft.fusion.router import Router, RouterConfig, RouterSettings, RouterState
from voicegraft.fusion.speech_lm import SpeechLM
from voicegraft.recipes.command import recipe_main
from voicegraft.recipes.speech_material import Round, material
from voicegraft.text.frontend import open_frontend
from voicegraft.tokenizers.loading import open_semantic
from voicegraft.train.config import LoopConfig
from voicegraft.train.engine import save_once
from voicegraft.train.loop import run


@dataclass(frozen=True)
class TrainRouterConfig:
    work: str = "runs/mine"  # the work folder
    backbone: str = ""  # folder of a causal LM; empty: work/backbone
    expert: str = ""  # folder of the speech expert; empty: work/expert
    text_expert: str = ""  # PEFT's adapter folder; empty: the identity
    out: str = "router"  # folder in work that receives the router
    frontend: str = "english"  # or verbatim: how written text is read, the same as the pack's
    router: RouterSettings = field(default_factory=RouterSettings)
    questions: QuestionsConfig = field(default_factory=QuestionsConfig)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=120, lr=6e-3, warmup_steps=10, final_lr=0.05))
    batch_positions: int = 1024  # of each kind of task
    supervision: float = 1.0  # weight of the loss of choosing the wrong expert
    # Whether it also learns from what the mixture says wrongly. Without, a router that decides from a prompt's embeddings needs
    # no pass of the model: seconds in place of minutes.
    next_token: bool = True
    num_sentences: int = 4000  # to be continued in writing, and as many to be pronounced
    num_clips: int = 2000  # utterances to be spoken
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.next_token and self.router.granularity == "token":
            raise ValueError(
                "next_token: false goes with granularity: segment; a router of tokens reads the model's layers"
            )


def train_router(config: TrainRouterConfig) -> None:
    work, device = Path(config.work), pick_device(config.device)
    lm = SpeechLM.load(
        config.backbone or work / "backbone",
        Path(config.expert) if config.expert else work / "expert",
        text_expert=Path(config.text_expert) if config.text_expert else None,
    )
    backbone = lm.speech_embedding.config.backbone
    torch.manual_seed(0)
    lm.router = Router(
        RouterConfig(lm.mole.names, lm.speech_embedding.config.width, lm.mole.num_layers, backbone, config.router)
    )
    model = RouterTraining(lm, config.supervision, config.next_token).to(device)
    tasks = Tasks(config, lm, device)

    if run(config.loop, work / f"{config.out}-training", {"router": model}, tasks):
        save_once(lm.router, lm.router.save, work / config.out, {"recipe": "train_router", "steps": config.loop.steps})


class RouterTraining(nn.Module):
    """The fused model, of which the router alone learns."""

    def __init__(self, lm: SpeechLM, supervision: float, next_token: bool = True):
        super().__init__()
        self.lm, self.supervision, self.next_token = lm, supervision, next_token
        # Where the choice alone counts, nothing behind the first layer is asked for.
        self._inner = lm.inner if next_token else lower_layers(lm.backbone, 1)

    def forward(self, batch: Mapping[str, Mapping[str, Tensor]]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a text batch of ``data.chat.collate_answers`` and a speech batch of ``data.sequences`` fields."""
        lm, text, speech = self.lm, batch["text"], batch["speech"]
        assert lm.router is not None
        # An answer must not tell how it is to be written; a text without a question is all prompt.
        written = lm.router.start(text["prompt"])
        with lm.mole.gated(written):
            if self.next_token:
                logits = lm.backbone(input_ids=text["input_ids"], use_cache=False).logits
                wanted = text["answer"][:, 1:]
                said, target = logits[:, :-1][wanted].float(), text["input_ids"][:, 1:][wanted]
                text_loss = F.cross_entropy(said, target, reduction="sum") / wanted.sum().clamp(min=1)
            else:
                self._inner(input_ids=text["input_ids"], use_cache=False)
        since_marker = (speech["token"] >= 0).cumsum(1).cumsum(1)
        spoken = lm.router.start(since_marker <= 1)
        embeddings = lm.speech_embedding.inputs(speech, lm.embed_text(speech["text"].clamp(min=0)))
        by_segment = lm.router.config.settings.granularity == "segment"
        gates = _FromMarker(spoken, since_marker == 0, lm.mole.names.index(TEXT))
        with lm.mole.gated(gates if lm.speech_embedding.config.activated and by_segment else spoken):
            hidden = self._inner(inputs_embeds=embeddings, use_cache=False).last_hidden_state
        names = lm.mole.names
        chosen = [
            _choice(written, names.index(TEXT), text["input_ids"] >= 0),
            _choice(spoken, names.index(SPEECH), since_marker > 0),
        ]
        choice = sum(loss for loss, _ in chosen) / 2
        parts = {"choice": torch.as_tensor(choice), "right": torch.as_tensor(sum(right for _, right in chosen) / 2)}
        loss = self.supervision * torch.as_tensor(choice)
        if self.next_token:
            speech_loss, _ = lm.speech_embedding.loss(hidden, speech)
            parts |= {"text": text_loss, "speech": speech_loss}
            loss = loss + text_loss + speech_loss
        return loss, parts


@dataclass(frozen=True)
class _FromMarker:
    """A segment's gates for an expert that acts from the marker on: before it, the text expert's."""

    segment: RouterState
    before: Tensor  # [B, T]
    text: int  # number of the text expert

    def at(self, layer: int, hidden: Tensor) -> Tensor:
        gates = self.segment.at(layer, hidden)  # [B, 1, E]: while it learns, never one expert's number
        assert isinstance(gates, Tensor)
        alone = F.one_hot(torch.full_like(self.before, self.text, dtype=torch.long), gates.shape[-1]).to(gates)
        return torch.where(self.before[..., None], alone, gates)


def _choice(state: RouterState, expert: int, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the router's decisions against the task's expert, and the share that are right.

    Args:
        inside: ``[B, T]`` the positions at which a token router is to know.
    """
    losses, rights = [], []
    for logits in state.logits:
        flat = logits[inside] if state.router.config.settings.granularity == "token" else logits.flatten(0, -2)
        losses.append(F.cross_entropy(flat, torch.full((len(flat),), expert, device=flat.device)))
        rights.append((flat.argmax(-1) == expert).float().mean())
    return torch.stack(losses).mean(), torch.stack(rights).mean()


class Tasks:
    """Step number -> a text batch and a speech batch."""

    def __init__(self, config: TrainRouterConfig, lm: SpeechLM, device: torch.device):
        work = Path(config.work)
        tokens = Tokens(work, "semantic", lm.speech_embedding.config.semantic)
        speech = PreparedSpeech(work, aligned=newest_alignments(work))
        speech.say_in(lm.vocabulary.voices)
        written = (work / "sentences.txt").read_text(encoding="utf-8").splitlines()
        sentences = sentences_of("train", written, speech)
        draw = random.Random(0)
        self.asked = QuestionBatches(lm.tokenizer, config.questions, work, config.batch_positions, 400, device)
        texts = draw.sample(sentences, min(len(sentences), config.num_sentences))
        self.prompts = [AnsweredQuestion(sentence_ids(lm.tokenizer, text), 1) for text in texts]
        # Whatever is typed is text: also what no sentence looks like, without a begin token.
        rows = cast(nn.Embedding, lm.backbone.get_input_embeddings()).num_embeddings
        vocabulary = list(range(min(len(lm.tokenizer), rows)))
        noise = (draw.choices(vocabulary, k=draw.randint(2, 40)) for _ in range(config.num_sentences // 4))
        self.prompts += [AnsweredQuestion(ids, len(ids)) for ids in noise]  # there is nothing in it to be learnt
        self.prompt_buckets = LengthBuckets(
            [len(p) for p in self.prompts], [1.0] * len(self.prompts), config.batch_positions
        )
        speech.clips = draw.sample(speech.clips, min(len(speech.clips), config.num_clips))
        settings = (
            lm.vocabulary,
            tokens,
            Context(lm.tokenizer),
            open_frontend(config.frontend),
            lm.speech_embedding.config.frames_per_step,
        )
        source, lexicon = Plain(*settings), None
        if lm.speech_embedding.config.layout == "guided":
            lexicon = Lexicon.load(work / "lexicon.json")
            rate = open_semantic(work / "semantic").spec.frame_rate
            spells = lm.speech_embedding.config.spells
            source = Guided(*settings, frame_rate=rate, spelling=Spelling(lm.tokenizer, lexicon), spells=spells)
        counts = (config.num_sentences, config.num_sentences // 4)
        train = material(source, speech, sentences, lexicon, "train", *counts)
        self.spoken, self.spoken_buckets = train.mixed(Round(), config.batch_positions)
        self.device, self.seed = device, config.loop.seed

    def __call__(self, step: int) -> dict[str, dict[str, Tensor]]:
        if step % 2:
            text = self.asked(step, self.seed)
            # The first position of an answer is where writing begins: all before it is the prompt.
            prompt = (text["answer"].cumsum(1) == 0) & (text["answer"].flip(1).cumsum(1).flip(1) > 0)
        else:
            items = [self.prompts[i] for i in self.prompt_buckets.draw(step, self.seed)]
            text = self.asked.collate(items)
            lengths = torch.tensor([len(item) for item in items], device=self.device)
            prompt = torch.arange(text["answer"].shape[1], device=self.device) < lengths[:, None]
        speech = collate([self.spoken[i] for i in self.spoken_buckets.draw(step, self.seed)], self.device)
        return {"text": {**text, "prompt": prompt}, "speech": speech}


main = recipe_main(train_router, __doc__)


if __name__ == "__main__":
    main()
