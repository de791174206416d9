"""Applies compiled finite-state grammars without the toolkit that compiled them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np

_TIE = 1e-7  # weights come as float32: a smaller difference is not a better path
_MAX_CACHED_STATES = 20_000  # what a state can do is worked out once; this bounds the memory that it takes

# What a state can do: per input byte (target, weight, output) triples; and end, with a weight and an output.
_Moves: TypeAlias = "tuple[dict[int, list[tuple[int, float, bytes]]], tuple[float, bytes] | None]"
# A path is a linked list from its end: what came before, and the bytes put out here.
_Path: TypeAlias = "tuple[_Path, bytes] | None"


class Transducer:
    """A weighted finite-state transducer over bytes: text in, the output of its cheapest path out.

    The search is exact. It walks the text one byte at a time and keeps, for every state, the cheapest way to
    be there, so the time is linear in the text. What a state does on each byte, past all its silent arcs, is
    found on first use and kept.

    Args:
        arrays: start state; num_arcs [S] of each state; per arc [A], in the order of their states: input and
            output (a byte, 0 for none), weight (index into weights), jump (target state minus source state);
            final_states [F], final_weights [F].
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        import numpy as np

        num_arcs = arrays["num_arcs"].astype(np.int64)
        ends = np.cumsum(num_arcs)
        source = np.repeat(np.arange(len(num_arcs)), num_arcs)
        self._ends: list[int] = ends.tolist()
        self._begins: list[int] = (ends - num_arcs).tolist()
        self._input: list[int] = arrays["input"].tolist()
        self._output: list[int] = arrays["output"].tolist()
        self._weight: list[float] = arrays["weights"].astype(np.float64)[arrays["weight"]].tolist()
        self._target: list[int] = (source + arrays["jump"]).tolist()
        self._final: dict[int, float] = dict(
            zip(arrays["final_states"].tolist(), arrays["final_weights"].tolist(), strict=True)
        )
        self._start = int(arrays["start"])
        self._moves: dict[int, _Moves] = {}

    def apply(self, text: str) -> str | None:
        """The output of the cheapest path that reads the whole text; None if there is no such path."""
        reached: dict[int, tuple[float, _Path]] = {self._start: (0.0, None)}
        for byte in text.encode("utf-8", "replace"):
            following: dict[int, tuple[float, _Path]] = {}
            for state, (cost, path) in reached.items():
                for target, weight, output in self._moves_of(state)[0].get(byte, ()):
                    total = cost + weight
                    known = following.get(target)
                    if known is None or total < known[0] - _TIE:
                        following[target] = (total, (path, output) if output else path)
            if not following:
                return None
            reached = following
        best: tuple[float, _Path] | None = None
        for state, (cost, path) in reached.items():
            end = self._moves_of(state)[1]
            if end is not None and (best is None or cost + end[0] < best[0] - _TIE):
                best = (cost + end[0], (path, end[1]))
        if best is None:
            return None
        pieces = []
        path = best[1]
        while path is not None:
            path, output = path
            pieces.append(output)
        return b"".join(reversed(pieces)).decode("utf-8", "replace")

    def _moves_of(self, state: int) -> _Moves:
        moves = self._moves.get(state)
        if moves is not None:
            return moves
        silent: dict[int, tuple[float, bytes]] = {state: (0.0, b"")}
        waiting = [state]
        while waiting:
            here = waiting.pop()
            cost, said = silent[here]
            for arc in range(self._begins[here], self._ends[here]):
                if self._input[arc] == 0:
                    _relax(silent, self._target[arc], cost + self._weight[arc], said, self._output[arc], waiting)
        by_byte: dict[int, dict[int, tuple[float, bytes]]] = {}
        end: tuple[float, bytes] | None = None
        for here, (cost, said) in silent.items():
            if here in self._final and (end is None or cost + self._final[here] < end[0] - _TIE):
                end = (cost + self._final[here], said)
            for arc in range(self._begins[here], self._ends[here]):
                if self._input[arc] != 0:
                    targets = by_byte.setdefault(self._input[arc], {})
                    _relax(targets, self._target[arc], cost + self._weight[arc], said, self._output[arc])
        moves = (
            {byte: [(target, *way) for target, way in targets.items()] for byte, targets in by_byte.items()},
            end,
        )
        if len(self._moves) >= _MAX_CACHED_STATES:
            self._moves.clear()
        self._moves[state] = moves
        return moves


def _relax(
    ways: dict[int, tuple[float, bytes]],
    target: int,
    cost: float,
    said: bytes,
    output: int,
    waiting: list[int] | None = None,
) -> None:
    """Records a way to `target` if it is the first or a cheaper one."""
    known = ways.get(target)
    if known is None or cost < known[0] - _TIE:
        ways[target] = (cost, said + bytes((output,)) if output else said)
        if waiting is not None:
            waiting.append(target)
