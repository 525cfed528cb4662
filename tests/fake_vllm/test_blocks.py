"""The block pool's laws, and the vocabulary's."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.fake_vllm import vocabulary
from tests.fake_vllm.blocks import BlockPool, chain_hash
from tests.trying import tries

_BLOCKS = 6
HASHES = st.integers(0, 8).map(lambda number: bytes([number]))


class PoolMachine(RuleBasedStateMachine):
    """Takes, finds, remembers and releases blocks as a scheduler does, keeping its own books."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(blocks=_BLOCKS, block_size=1)
        self.users = [0] * _BLOCKS
        self.written: dict[bytes, int] = {}
        """What the block that was last remembered under a hash holds."""
        self.marks = 0

    @precondition(lambda self: self.pool.free_blocks > 0)
    @rule(known_as=HASHES)
    def take_write_and_remember(self, known_as: bytes) -> None:
        """Compute a block and let it be found, unless such a block is known already."""
        block = self.pool.take()
        assert self.users[block] == 0
        self.users[block] = 1
        self.marks += 1
        self.pool.contents[block] = self.marks
        already = self.pool.find([known_as])
        self.pool.remember(block, known_as)
        if already:
            self.pool.release(already)
        else:
            self.written[known_as] = self.marks

    @rule(known_as=HASHES)
    def find(self, known_as: bytes) -> None:
        """A block found by its hash holds what was written to it, and is in use."""
        for block in self.pool.find([known_as]):
            assert self.pool.contents[block].flat[0] == self.written[known_as]
            self.users[block] += 1

    @precondition(lambda self: any(self.users))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """Stop using one of the blocks in use."""
        block = data.draw(st.sampled_from([block for block, users in enumerate(self.users) if users]))
        self.users[block] -= 1
        self.pool.release([block])

    @rule()
    def forget(self) -> None:
        """Forgetting works exactly when nothing is in use; nothing is found afterwards."""
        assert self.pool.forget() is not any(self.users)
        if not any(self.users):
            assert not any(self.pool.find([bytes([number])]) for number in range(9))

    @invariant()
    def books_agree(self) -> None:
        """What is not in use is free."""
        assert self.pool.free_blocks == self.users.count(0)


TestPool = PoolMachine.TestCase
TestPool.settings = tries(40)


def test_only_a_whole_known_beginning_is_found() -> None:
    """Blocks behind an unknown one are not found, even where they are known themselves."""
    pool = BlockPool(blocks=4, block_size=2)
    first, third = pool.take(), pool.take()
    pool.remember(first, b"1")
    pool.remember(third, b"3")
    assert pool.find([b"1", b"2", b"3"]) == [first]


def test_the_block_that_is_free_for_longest_is_taken_first() -> None:
    """Of a released answer the last block goes first, so that beginnings stay cached for longest."""
    pool = BlockPool(blocks=3, block_size=2)
    blocks = [pool.take() for _ in range(3)]
    pool.release(blocks)
    assert [pool.take() for _ in range(3)] == blocks[::-1]


@given(st.lists(st.integers(0, 3), max_size=4), st.lists(st.integers(0, 3), max_size=4))
def test_hashes_tell_beginnings_apart(one: list[int], other: list[int]) -> None:
    """Equal hashes mean equal tokens, equal parents and equal salts."""
    assert (chain_hash(b"", one) == chain_hash(b"", other)) == (one == other)
    assert chain_hash(b"", one, "salt") != chain_hash(b"", one, None)
    assert chain_hash(b"parent", one) != chain_hash(b"", one)


@given(st.text(alphabet=string.ascii_letters + string.digits + string.punctuation + " \n"))
def test_text_survives_the_tokenizer(text: str) -> None:
    """Tokens of plain text decode to the same text, and all are in the vocabulary."""
    tokens = vocabulary.encode(text)
    assert vocabulary.decode(tokens) == text or "<|" in text
    assert all(0 <= token < vocabulary.SIZE for token in tokens)
