"""Keys and values of texts that were read before, as a tree over their token ids.

Texts that begin alike share what they have in common. A branch is made where two texts
differ for the first time: a new turn, an edited message, another answer to the same question.

    system ─ question ─┬─ thought, answer
                       └─ answer ─ second question ─┬─ …
                                                    └─ …

A text that comes back is not read again, it is copied from here. The tree holds at most so
many bytes; to make room, the end of the text that was not used for longest goes first.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import mlx.core as mx

from qwen3_mlx.engine.kv import KVCache, Layers, cut
from qwen3_mlx.model.config import ModelConfig

__all__ = ["PrefixTree", "default_bound", "eighth_of_memory"]


@dataclass(eq=False, slots=True)
class _Node:
    """Consecutive tokens: their ids, and what the cache of one row holds of them."""

    ids: tuple[int, ...]
    layers: Layers
    parent: _Node | None = None
    children: dict[int, _Node] = field(default_factory=dict)
    used: int = 0


class PrefixTree:
    """What has been read, up to `limit` bytes; 0 keeps nothing. For the engine thread."""

    def __init__(self, config: ModelConfig, limit: int) -> None:
        self._config, self._limit = config, limit
        self._root = _Node((), [])
        self._clock = 0
        self._token_bytes = 0
        self.tokens = 0

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return self.tokens * self._token_bytes

    def length(self, ids: Sequence[int]) -> int:
        """How many of the first ids are known."""
        return sum(known for _, known in self._walk(ids))

    def take(self, ids: Sequence[int], most: int) -> KVCache | None:
        """A cache of its own with the first ids that are known, at most so many of them.

        It has room for all of the ids.
        """
        path, left = [], most
        self._clock += 1
        for node, known in self._walk(ids):
            node.used = self._clock
            path.append((node, min(known, left)))
            left -= min(known, left)
        length = most - left
        if not length:
            return None
        pieces = [
            [tuple(array[:, :, :n] for array in arrays) for arrays in node.layers]
            for node, n in path
            if n
        ]
        return KVCache.of(self._config, pieces, length, len(ids))

    def put(self, ids: Sequence[int], kv: KVCache) -> None:
        """Keep the keys and values of these ids; `kv` has one row that begins with them."""
        if not self._limit or not ids:
            return
        self._token_bytes = kv.bytes_per_token
        self._clock += 1
        path = self._walk(ids)
        for node, length in path:
            if length == len(node.ids):
                node.used = self._clock
        known = sum(length for _, length in path)
        most = self._limit // self._token_bytes  # tokens; a longer text loses its end
        end = min(len(ids), most)
        if end > known:
            node = self._branch(path)
            self._shrink(most - (end - known), node)
            self._add(node, ids[known:end], kv.piece(known, end))

    def _walk(self, ids: Sequence[int]) -> list[tuple[_Node, int]]:
        """The nodes along the ids, each with how many of its tokens agree."""
        path, place, node = [], 0, self._root
        while place < len(ids) and (child := node.children.get(ids[place])) is not None:
            known = _common(child.ids, ids, place)
            path.append((child, known))
            place, node = place + known, child
            if known < len(child.ids):
                break
        return path

    def _branch(self, path: list[tuple[_Node, int]]) -> _Node:
        """The node at whose end a text leaves the tree; cut out of a longer one if need be."""
        if not path:
            return self._root
        node, known = path[-1]
        if known == len(node.ids):
            return node
        head = _Node(node.ids[:known], [], node.parent, used=self._clock)
        assert node.parent is not None
        node.parent.children[node.ids[0]] = head
        whole, node.layers = node.layers, []
        while whole:  # layer by layer, so that no more than one is held twice
            layer = [whole.pop(0)]
            (front,), (back,) = cut(layer, 0, known), cut(layer, known, len(node.ids))
            mx.eval(front, back)
            head.layers.append(front)
            node.layers.append(back)
        node.ids, node.parent = node.ids[known:], head
        head.children[node.ids[0]] = node
        return head

    def _add(self, parent: _Node, ids: Sequence[int], layers: Layers) -> None:
        parent.children[ids[0]] = _Node(tuple(ids), layers, parent, used=self._clock)
        self.tokens += len(ids)
        mx.async_eval([array for pair in layers for array in pair])

    def _shrink(self, most: int, spared: _Node) -> None:
        """Let ends of texts go, the ones not used for longest first; not what leads to a node.

        A text's own beginning and what is added to it fit together, so there is always one.
        """
        while self.tokens > most:
            leaf = min(self._leaves(spared), key=lambda node: node.used)
            assert leaf.parent is not None
            del leaf.parent.children[leaf.ids[0]]
            self.tokens -= len(leaf.ids)

    def _leaves(self, spared: _Node) -> list[_Node]:
        leaves, open_nodes = [], [self._root]
        while open_nodes:
            node = open_nodes.pop()
            open_nodes.extend(node.children.values())
            if not node.children and node is not spared and node.parent is not None:
                leaves.append(node)
        return leaves


def default_bound(token_bytes: int, context: int) -> int:
    """Bytes for a tree where nobody says: one whole context, at most an eighth of the memory."""
    return min(token_bytes * context, eighth_of_memory())


def eighth_of_memory() -> int:
    """An eighth of the machine's memory in bytes, the measure of what is kept unasked."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 8


def _common(known: Sequence[int], ids: Sequence[int], start: int) -> int:
    """How many of the known ids are the ids from `start` on."""
    most = min(len(known), len(ids) - start)
    if tuple(ids[start : start + most]) == tuple(known[:most]):
        return most
    return next(n for n in range(most) if known[n] != ids[start + n])
