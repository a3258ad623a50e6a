"""Bytes as letters, complete: the alphabet in which byte-level BPE writes its tokens."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=1)
def bytes_of_letters() -> dict[str, int]:
    """Letter → byte: printable Latin-1 stands for itself, the other bytes for the letters from U+0100 on.

    GPT-2 (Radford et al. 2019) writes bytes this way so that every token is visible text.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {
        **{chr(byte): byte for byte in printable},
        **{chr(256 + place): byte for place, byte in enumerate(others)},
    }


@lru_cache(maxsize=1)
def letters_of_bytes() -> tuple[str, ...]:
    """The letter of each byte."""
    return tuple(letter for letter, _ in sorted(bytes_of_letters().items(), key=lambda item: item[1]))


def spelled(data: bytes) -> str:
    """Bytes as letters."""
    letters = letters_of_bytes()
    return "".join(letters[byte] for byte in data)
