"""The lower decoder layers of a backbone: speech may leave it before its end, text never does.

Where the phones are known, what is left to say needs less of a language model than its text does. So a speech expert may live
in the first layers alone (``num_layers``), and is trained and spoken at their price.
"""

from __future__ import annotations

import copy
import re
from typing import TypeVar, cast

from torch import nn
from transformers import PreTrainedModel

from voicegraft.core.errors import VoicegraftError

M = TypeVar("M", bound=nn.Module)


def decoder_layers(backbone: nn.Module) -> list[str]:
    """Names of the decoder's layers in their order: ``model.layers.0`` and so on, whatever the family calls them."""
    found = [name for name, _ in backbone.named_modules() if re.fullmatch(r"[^0-9]*\.\d+", name)]
    lists: dict[str, list[str]] = {}
    for name in found:
        lists.setdefault(name.rpartition(".")[0], []).append(name)
    return max(lists.values(), key=len, default=[])


def lower_layers(backbone: PreTrainedModel, count: int = 0) -> PreTrainedModel:
    """The inner model of a causal LM, from embeddings to its final norm, with its first decoder layers alone.

    Args:
        count: 0 is all of them. The layers are the backbone's own and not copies, with whatever experts sit on them.

    Raises:
        VoicegraftError: the backbone has fewer.
    """
    inner = cast(PreTrainedModel, backbone.base_model)
    if not count:
        return inner
    names = decoder_layers(inner)
    if count > len(names):
        raise VoicegraftError(
            f"num_layers asks for {count} layers, this backbone has {len(names)}: expected 0 (all) to {len(names)}"
        )
    lower = _shallow(inner)
    parent: nn.Module = lower
    *path, last = names[0].split(".")[:-1]
    for name in path:
        child = _shallow(parent.get_submodule(name))
        parent._modules[name] = child
        parent = child
    parent._modules[last] = nn.ModuleList(list(cast(nn.ModuleList, parent.get_submodule(last)))[:count])
    lower.config = copy.copy(inner.config)
    lower.config.num_hidden_layers = count
    return lower


def _shallow(module: M) -> M:
    """A module of its own with the same children and weights."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin
