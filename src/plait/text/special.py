"""Special tokens by role, complete: `bos_token` … `mask_token` and their ids, the additional ones, and lists of all.

A role is a name for a token string; ids follow from the vocabulary. Setting a role changes only the name, so
`tokenizer.pad_token = tokenizer.eos_token` adds nothing to the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from plait.errors import TokenizerError

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def content(value: Any) -> str | None:
    """The text of a token as configuration files spell it: a string, an AddedToken, or its dict."""
    if isinstance(value, dict):
        value = value.get("content")
    if value is None or isinstance(value, str):
        return value
    text = getattr(value, "content", None)
    if not isinstance(text, str):
        raise TokenizerError(f"A special token is a string, but found {value!r}.")
    return text


class _Role:
    """The string of a role, or None."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self.__doc__ = f"The token of this role, or None ({name})."

    def __get__(self, tokenizer: SpecialTokens | None, owner: type) -> Any:
        return self if tokenizer is None else tokenizer._roles.get(self.name)

    def __set__(self, tokenizer: SpecialTokens, value: Any) -> None:
        tokenizer._roles[self.name] = content(value)


class _RoleId:
    """The id of a role, or None; setting it names the token with that id."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.role = name.removesuffix("_id")
        self.__doc__ = f"The id of {self.role}, or None."

    def __get__(self, tokenizer: SpecialTokens | None, owner: type) -> Any:
        if tokenizer is None:
            return self
        token = tokenizer._roles.get(self.role)
        return None if token is None else tokenizer._id_of(token)

    def __set__(self, tokenizer: SpecialTokens, value: int | None) -> None:
        tokenizer._roles[self.role] = None if value is None else tokenizer._token_of(value)


class SpecialTokens:
    """The roles of a tokenizer's special tokens."""

    bos_token = _Role()
    eos_token = _Role()
    unk_token = _Role()
    sep_token = _Role()
    pad_token = _Role()
    cls_token = _Role()
    mask_token = _Role()
    bos_token_id = _RoleId()
    eos_token_id = _RoleId()
    unk_token_id = _RoleId()
    sep_token_id = _RoleId()
    pad_token_id = _RoleId()
    cls_token_id = _RoleId()
    mask_token_id = _RoleId()

    def __init__(self, roles: Mapping[str, str | None], additional: Iterable[str]) -> None:
        self._roles = {role: roles.get(role) for role in ROLES}
        self._additional = list(dict.fromkeys(additional))

    def _id_of(self, token: str) -> int | None:
        raise NotImplementedError

    def _token_of(self, index: int) -> str:
        raise NotImplementedError

    @property
    def additional_special_tokens(self) -> list[str]:
        """Special tokens without a role, such as <|im_start|>."""
        return list(self._additional)

    @additional_special_tokens.setter
    def additional_special_tokens(self, tokens: Iterable[Any]) -> None:
        self._additional = list(dict.fromkeys(text for text in map(content, tokens) if text is not None))

    @property
    def additional_special_tokens_ids(self) -> list[int | None]:
        """Their ids."""
        return [self._id_of(token) for token in self._additional]

    @property
    def special_tokens_map(self) -> dict[str, Any]:
        """Role → token for the roles that are filled."""
        filled: dict[str, Any] = {role: token for role, token in self._roles.items() if token is not None}
        if self._additional:
            filled["additional_special_tokens"] = list(self._additional)
        return filled

    @property
    def all_special_tokens(self) -> list[str]:
        """Every special token once: roles first, then the additional ones."""
        return list(dict.fromkeys([token for token in self._roles.values() if token is not None] + self._additional))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of `all_special_tokens`."""
        return [index for index in map(self._id_of, self.all_special_tokens) if index is not None]
