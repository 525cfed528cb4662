"""A tokenizer of common English words and letter pairs, with a chat template."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import BaseModel

NOTHING, TURN_START, END_OF_SEQUENCE = 0, 1, 2
"""As in SmolLM2: a model without weights answers with id 0 only, which has no text."""

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

_WORDS = """
the of and to in is that for it as was with be by on not he his but at are this have from or had an
they which one you were all her she there would their we him been has when who will no more if out
so up said what its about than into them can only other time new some could these two may first then
do any like my now over such our man me even most made after also did many off before must well back
through years much where your way down should because long each just state those people too mr how
little good world make very year still see work life us river water city land country market home
house light night day sea mountain green old great small high road story child letter music history
language food trade school science paper number order power morning evening
"""


def _pieces() -> tuple[str, ...]:
    words = [f" {word}" for word in _WORDS.split()]
    vowels, consonants = "aeiou", "bcdfghjklmnpqrstvwxyz"
    pairs = [consonant + vowel for consonant in consonants for vowel in vowels]
    pairs += [vowel + consonant for vowel in vowels for consonant in consonants]
    characters = [chr(code) for code in range(ord(" "), ord("~") + 1)] + ["\n"]
    return tuple(dict.fromkeys([*SPECIAL_TOKENS, *characters, *pairs, *words]))


PIECES = _pieces()
SIZE = len(PIECES)
_IDS = {piece: token for token, piece in enumerate(PIECES)}
_PIECE = re.compile("|".join(re.escape(piece) for piece in sorted(PIECES, key=len, reverse=True)), re.DOTALL)
_UNKNOWN = "?"
_CHARACTERS = "0123456789"
"""No piece of more than one of these exists, so each is a token."""


PICTURE_TOKENS = 16


class ImageUrl(BaseModel):
    """Where a picture is."""

    url: str


class Part(BaseModel):
    """A part of what a turn says."""

    type: Literal["text", "image_url"]
    text: str = ""
    image_url: ImageUrl | None = None


class Message(BaseModel):
    """One turn of a chat."""

    role: str
    content: str | list[Part]

    @property
    def shown(self) -> str:
        """What it says in letters, a picture among them: as many for each, and others for another."""
        if isinstance(self.content, str):
            return self.content
        return "".join(_picture(part.image_url.url) if part.image_url else part.text for part in self.content)


def encode(text: str) -> list[int]:
    """Split text into the longest known pieces; a character outside ASCII becomes a question mark."""
    known = "".join(
        character if character.isascii() and character in _IDS else _UNKNOWN for character in text
    )
    return [_IDS[match[0]] for match in _PIECE.finditer(known)]


def decode(tokens: Iterable[int]) -> str:
    """The text of the tokens; special ones have none."""
    return "".join(PIECES[token] for token in tokens if token >= len(SPECIAL_TOKENS))


def _picture(url: str) -> str:
    digest = hashlib.sha256(url.encode()).digest()
    return "".join(_CHARACTERS[byte % len(_CHARACTERS)] for byte in digest[:PICTURE_TOKENS])


def apply_chat_template(messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
    """Write a chat out as ChatML."""
    turns = [f"<|im_start|>{message.role}\n{message.shown}<|im_end|>\n" for message in messages]
    return "".join(turns) + ("<|im_start|>assistant\n" if add_generation_prompt else "")
