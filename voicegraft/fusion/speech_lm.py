"""A frozen text LLM with a speech expert: a PEFT LoRA, and rows for the speech vocabulary beside the backbone's own.

``text_logits`` is the untouched backbone, bit for bit: the LoRA is switched off and the text embedding and softmax were
never changed. ``hidden`` runs the backbone with the expert on embeddings, which are the backbone's for text positions
and the speech rows' for speech positions; ``SpeechRows.head`` then scores the speech vocabulary only.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as hf_logging

from voicegraft.core.artifacts import fingerprint, load_artifact, save_artifact
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.sequences import IGNORE, MAX_ELAPSED, unit_window
from voicegraft.data.spelling import LETTER_WINDOW
from voicegraft.fusion.experts import ADAPTER_WEIGHTS
from voicegraft.fusion.step_decoder import StepDecoder
from voicegraft.tokenizers.fsq import structured_rows
from voicegraft.tokenizers.vocabulary import SpeechVocabulary

EXPERT = "speech"  # the adapter's name in PEFT


@dataclass(frozen=True)
class LoraSettings:
    rank: int = 64
    alpha: int = 64  # the product B A is scaled by alpha / rank
    dropout: float = 0.0
    targets: tuple[str, ...] = ("all-linear",)  # module names, or all-linear: every linear but the text softmax


@dataclass(frozen=True)
class RowsConfig:
    """What the speech rows belong to; checked when an expert is put on a backbone."""

    vocabulary: SpeechVocabulary
    width: int  # D of the backbone
    place_width: int  # hidden units of what works out a position's place
    backbone: str  # fingerprint of the backbone's weights
    semantic: str  # fingerprint of the semantic tokenizer


class SpeechRows(nn.Module):
    """Embedding and output rows of the speech vocabulary, and of the places where its tokens stand."""

    def __init__(self, config: RowsConfig):
        super().__init__()
        self.config = config
        width = config.width
        self.token = nn.Embedding(config.vocabulary.size, width)
        self.units = nn.Embedding(unit_window(config.vocabulary).num_rows, width, padding_idx=0)
        self.elapsed = nn.Embedding(MAX_ELAPSED + 1, width)
        self.letters = nn.Embedding(LETTER_WINDOW.num_rows, width, padding_idx=0)
        # Neighbours mean something together ("ch", "igh"), which a sum of rows cannot tell, nor a frozen backbone well.
        self.place = nn.Sequential(
            nn.RMSNorm(width), nn.Linear(width, config.place_width), nn.GELU(), nn.Linear(config.place_width, width)
        )
        self.head = nn.Linear(width, config.vocabulary.size)

    def initialise(self, std: float, levels: tuple[int, ...] | None = None) -> None:
        """Rows as large as the backbone's; codes that differ in one FSQ digit (``levels``) begin as neighbours."""
        for table in (self.token, self.units, self.elapsed, self.letters, self.head):
            nn.init.normal_(table.weight, std=std)
        leave = cast(nn.Linear, self.place[-1])
        nn.init.normal_(leave.weight, std=std * leave.in_features**-0.5)
        for zero in (self.head.bias, leave.bias, self.units.weight[0], self.letters.weight[0]):
            nn.init.zeros_(zero)
        if levels is not None:
            first = self.config.vocabulary.first_code
            with torch.no_grad():
                self.token.weight[first:] = structured_rows(levels, self.config.width, std)
                self.head.weight[first:] = structured_rows(levels, self.config.width, std)

    def where(self, voice: Tensor, units: Tensor, elapsed: Tensor, letters: Tensor) -> Tensor:
        """Ids ``[...]``, units and letters ``[..., width]`` (see ``data.sequences``) -> what tells a place ``[..., D]``."""
        rows = self.units(units).sum(-2) + self.elapsed(elapsed) + self.letters(letters).sum(-2) + self.token(voice)
        return rows + self.place(rows)


class SpeechLM(nn.Module):
    """Backbone, speech expert and speech rows. Build with ``new`` or ``load``."""

    def __init__(self, peft_model: PeftModel, tokenizer: PreTrainedTokenizerBase, rows: SpeechRows):
        super().__init__()
        self.peft_model = peft_model
        self.tokenizer = tokenizer
        self.rows = rows
        self.fast: StepDecoder | None = None

    @staticmethod
    def new(
        backbone: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        vocabulary: SpeechVocabulary,
        semantic: str,
        lora: LoraSettings,
        levels: tuple[int, ...] | None = None,
    ) -> SpeechLM:
        """A fresh expert on a backbone, which is frozen from here on."""
        embedding: Tensor = cast(nn.Embedding, backbone.get_input_embeddings()).weight
        width = embedding.shape[1]
        rows = SpeechRows(RowsConfig(vocabulary, width, 2 * width, backbone_fingerprint(backbone), semantic))
        rows.initialise(float(embedding.detach().float().std()), levels)
        settings = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules="all-linear" if lora.targets == ("all-linear",) else list(lora.targets),
            task_type="CAUSAL_LM",
        )
        return SpeechLM(get_peft_model(backbone, settings, adapter_name=EXPERT), tokenizer, rows)

    @property
    def vocabulary(self) -> SpeechVocabulary:
        return self.rows.config.vocabulary

    @property
    def backbone(self) -> PreTrainedModel:
        """The causal LM, with the expert's layers inside it."""
        return cast(PreTrainedModel, self.peft_model.get_base_model())

    def text_logits(self, input_ids: Tensor, **kwargs: Any) -> Tensor:
        """Text ids ``[B, T]`` -> the untouched backbone's logits ``[B, T, V]``."""
        with self.peft_model.disable_adapter():
            return self.backbone(input_ids=input_ids, **kwargs).logits

    def text_ids(self, text: str) -> list[int]:
        """The text as the expert reads it: the backbone's begin token, if it has one, and the backbone's tokens."""
        begin = self.tokenizer.bos_token_id
        return self.word_ids(text) if begin is None else [begin, *self.word_ids(text)]

    def word_ids(self, written: str) -> list[int]:
        """A word, or any other piece of text, in the backbone's tokens."""
        ids: list[int] = self.tokenizer(written, add_special_tokens=False)["input_ids"]
        return ids

    def embed_text(self, ids: Tensor) -> Tensor:
        """Text ids ``[B, T]`` -> the backbone's embeddings ``[B, T, D]``."""
        return self.backbone.get_input_embeddings()(ids)

    def start_cache(self) -> Any:
        """An empty cache for ``hidden``; one stream, one cache."""
        return DynamicCache() if self.fast is None else self.fast.start()

    def hidden(self, embeddings: Tensor, cache: Any = None) -> Tensor:
        """Embeddings ``[B, T, D]`` -> last hidden states ``[B, T, D]`` with the expert on; ``cache`` is extended.

        With a cache after ``merge_for_speed`` the batch is a single stream.
        """
        if self.fast is not None and cache is not None:
            return self.fast(embeddings, cache)
        inner = self.backbone.base_model
        out = inner(inputs_embeds=embeddings, past_key_values=cache, use_cache=cache is not None)
        return out.last_hidden_state

    def take_back(self, cache: Any, num_positions: int) -> None:
        """Removes the last positions from a cache of ``merge_for_speed``'s."""
        cache.length -= num_positions

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Training loss on a batch of ``data.sequences`` fields ``[B, L]``: mean cross-entropy, and its parts."""
        speech = batch["token"] >= 0
        places = (batch[name] for name in ("voice", "units", "elapsed", "letters"))
        rows = self.rows.token(batch["token"].clamp(min=0)) + self.rows.where(*places)
        text = self.embed_text(batch["text"].clamp(min=0))
        hidden = self.hidden(torch.where(speech[..., None], rows, text))
        wanted = batch["target"] != IGNORE
        logits = self.rows.head(hidden[wanted]).float()
        target = batch["target"][wanted]
        each = F.cross_entropy(logits, target, reduction="none")
        with torch.no_grad():
            spoken = batch["units"][wanted].any(-1)
            right = (logits.argmax(-1) == target).float()
            parts = {
                "think": each[~spoken].mean(),
                "speak": each[spoken].mean() if spoken.any() else each.new_zeros(()),
                "think_accuracy": right[~spoken].mean(),
            }
        return each.mean(), parts

    def merge_for_speed(self) -> None:
        """Folds the expert into a copy of the backbone laid out for cached steps, which ``hidden`` then uses.

        For small models: it doubles their memory. The backbone itself stays as it is. Architectures without such a
        layout (see ``StepDecoder.supports``) go on through transformers.
        """
        if StepDecoder.supports(self.backbone.base_model):
            with _quietly():
                merged = copy.deepcopy(self.peft_model).merge_and_unload()
            self.fast = StepDecoder(merged.base_model)

    def save_expert(self, folder: Path, provenance: dict[str, object]) -> None:
        """Writes PEFT's adapter folder ``folder/speech`` and the rows ``folder/rows``."""
        folder.mkdir(parents=True, exist_ok=True)
        adapter = get_peft_model_state_dict(self.peft_model, adapter_name=EXPERT, save_embedding_layers=False)
        # PEFT notes where the backbone lay on this machine; nobody else has it there.
        settings = self.peft_model.peft_config[EXPERT]
        settings.base_model_name_or_path = Path(settings.base_model_name_or_path or "").name
        halves = {name: tensor.detach().half() for name, tensor in adapter.items()}
        self.peft_model.save_pretrained(str(folder), state_dict=halves, save_embedding_layers=False)
        (folder / EXPERT / ADAPTER_WEIGHTS).chmod(0o644)  # comes readable to its owner alone, is to be shared
        save_artifact(
            folder / "rows", "speech-rows", self.rows.config, self.rows.state_dict(), provenance, torch.float16
        )

    def take_expert(self, folder: Path) -> None:
        """Copies the weights of a saved expert of the same shape, to go on training from them.

        Raises:
            VoicegraftError: another vocabulary, tokenizer, backbone or LoRA shape.
        """
        saved = load_artifact(folder / "rows", "speech-rows", RowsConfig)
        if saved.config != self.rows.config:
            raise VoicegraftError(
                f"the expert in {folder} has another vocabulary, semantic tokenizer or backbone than this run: train from "
                "the start, or with the parts it was trained with"
            )
        self.rows.load_state_dict(saved.tensors)
        adapter = load_file(folder / EXPERT / ADAPTER_WEIGHTS)
        own = get_peft_model_state_dict(self.peft_model, adapter_name=EXPERT, save_embedding_layers=False)
        if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in adapter.items()}:
            raise VoicegraftError(f"the LoRA in {folder} has another rank or other targets: set lora to its values")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(adapter[name])

    @staticmethod
    def load(backbone_folder: Path, expert_folder: Path) -> SpeechLM:
        """Loads a backbone and puts an expert on it.

        Raises:
            VoicegraftError: the expert was trained for another backbone.
        """
        backbone, tokenizer = load_backbone(backbone_folder)
        artifact = load_artifact(expert_folder / "rows", "speech-rows", RowsConfig)
        found = backbone_fingerprint(backbone)
        if artifact.config.backbone != found:
            raise VoicegraftError(
                f"the speech expert in {expert_folder} was trained on backbone {artifact.config.backbone}, but "
                f"{backbone_folder} is {found}: use the backbone it was trained on, or train an expert for this one"
            )
        rows = SpeechRows(artifact.config)
        rows.load_state_dict(artifact.tensors)
        adapter = expert_folder / EXPERT
        if not (adapter / ADAPTER_WEIGHTS).is_file():
            raise VoicegraftError(f"no PEFT adapter in {adapter}: expected {ADAPTER_WEIGHTS}")
        try:
            with _quietly():
                peft_model = PeftModel.from_pretrained(backbone, str(adapter), adapter_name=EXPERT)
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            raise VoicegraftError(
                f"cannot read the PEFT adapter in {adapter}: {_one_line(error)}; get it anew"
            ) from error
        return SpeechLM(peft_model, tokenizer, rows).eval().requires_grad_(False)


def load_backbone(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Any causal LM folder in float32, from safetensors, without remote code."""
    if not (folder / "config.json").is_file():  # transformers would take the path for a name on the Hub
        raise VoicegraftError(
            f"expected the folder of a text LLM at {folder}, found no config.json there; check the path"
        )
    try:
        with _quietly():
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, trust_remote_code=False
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return model.eval(), tokenizer
    except (OSError, ValueError, SafetensorError) as error:
        raise VoicegraftError(
            f"{folder} is not a causal LM that transformers can load ({_one_line(error)}); expected config.json, "
            "safetensors weights and a tokenizer"
        ) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Keeps the progress bars and deprecation notices of libraries from the users of a command."""
    shown = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        if shown:
            hf_logging.enable_progress_bar()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def backbone_fingerprint(backbone: PreTrainedModel) -> str:
    """Over the backbone's own weights, whether or not experts sit on it."""
    own = {n.replace(".base_layer", ""): p for n, p in backbone.state_dict().items() if ".lora_" not in n}
    return fingerprint(own)
