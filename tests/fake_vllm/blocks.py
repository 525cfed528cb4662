"""KV blocks and the prefix cache that finds them by the hash of the tokens they were computed from.

Follows vllm/v1/core/block_pool.py: a block's hash covers its tokens and its predecessor's hash,
a freed block keeps its contents and its hash until it is needed again, and forgetting the hashes
leaves the contents alone.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from tests.fake_vllm.model import KV_SHAPE, Array


def chain_hash(parent: bytes, tokens: Sequence[int], *extra: str | None) -> bytes:
    """The hash of a full block: of its tokens, of what else sets it apart, and of all before it."""
    return hashlib.sha256(parent + repr((tuple(tokens), extra)).encode()).digest()


class BlockPool:
    """A fixed number of blocks, their contents, who uses them and what they are known as."""

    def __init__(self, *, blocks: int, block_size: int) -> None:
        self.block_size = block_size
        self.contents: Array = np.zeros((blocks, block_size, *KV_SHAPE), dtype=np.float32)
        self._users = [0] * blocks
        self._hash_of: dict[int, bytes] = {}
        self._block_of: dict[bytes, int] = {}
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(blocks))
        """Least recently used first."""

    @property
    def free_blocks(self) -> int:
        """How many blocks nobody uses, remembered or not."""
        return len(self._free)

    def find(self, hashes: Sequence[bytes]) -> list[int]:
        """The remembered blocks of the longest known beginning, from now on in use."""
        found: list[int] = []
        for wanted in hashes:
            block = self._block_of.get(wanted)
            if block is None:
                break
            self._users[block] += 1
            self._free.pop(block, None)
            found.append(block)
        return found

    def take(self) -> int:
        """The block that has been free for longest, from now on in use and no longer remembered."""
        block, _ = self._free.popitem(last=False)
        self._users[block] += 1
        known_as = self._hash_of.pop(block, None)
        if known_as is not None:
            del self._block_of[known_as]
        return block

    def remember(self, block: int, known_as: bytes) -> None:
        """Let later requests find the block, unless another of the same hash can be found already."""
        if known_as not in self._block_of and block not in self._hash_of:
            self._block_of[known_as] = block
            self._hash_of[block] = known_as

    def release(self, blocks: Sequence[int]) -> None:
        """Stop using the blocks; the last ones are the first to be taken again."""
        for block in reversed(blocks):
            self._users[block] -= 1
            if self._users[block] == 0:
                self._free[block] = None

    def forget(self) -> bool:
        """Forget all hashes; refused (False) while blocks are in use."""
        if any(self._users):
            return False
        self._hash_of.clear()
        self._block_of.clear()
        return True

    def gather(self, blocks: Sequence[int], tokens: int) -> Array:
        """What the blocks hold for the first ``tokens`` tokens, one row a token."""
        rows: Array = self.contents[list(blocks)].reshape(-1, *KV_SHAPE)[:tokens]
        return rows

    def write(self, block: int, slot: int, row: Array) -> None:
        """Keep the keys and values of one token."""
        self.contents[block, slot] = row
