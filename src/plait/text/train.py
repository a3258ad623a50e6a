"""A new vocabulary for an old tokenizer, complete: the same rules, learned from other texts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, pre_tokenizers, trainers
from tokenizers import Tokenizer as Crate

from plait import console
from plait.errors import TokenizerError
from plait.text.engine import CrateEngine
from plait.text.save import config
from plait.text.special import ROLES

if TYPE_CHECKING:
    from plait.text.tokenizer import Tokenizer

TRAINERS = {
    "BPE": trainers.BpeTrainer,
    "Unigram": trainers.UnigramTrainer,
    "WordLevel": trainers.WordLevelTrainer,
    "WordPiece": trainers.WordPieceTrainer,
}


def train_new(
    tokenizer: Tokenizer,
    texts: Iterable[Any],
    vocab_size: int,
    *,
    length: int | None = None,
    new_special_tokens: Iterable[str] = (),
    special_tokens_map: Mapping[str, str] | None = None,
    **options: Any,
) -> Tokenizer:
    """Learn a vocabulary of `vocab_size` tokens from `texts`, an iterable of str or of lists of str.

    Normalisation, splitting, special tokens and what stands around a text stay those of `tokenizer`.
    `special_tokens_map` renames special tokens (old → new), `new_special_tokens` adds some, `length` is the number of
    items for the progress bar, and `options` go to the trainer of the tokenizers library.
    """
    from plait.text.tokenizer import Tokenizer as Made

    renamed = dict(special_tokens_map or {})
    rules: dict[str, Any] = json.loads(tokenizer.engine.to_json())
    added, processor = rules.pop("added_tokens"), rules.pop("post_processor")
    kind = rules["model"]["type"]
    if kind not in TRAINERS:
        raise TokenizerError(f"A vocabulary of kind {kind!r} cannot be learned; kinds: {', '.join(TRAINERS)}.")
    special = [
        AddedToken(renamed.get(token["content"], token["content"]), **_flags(token))
        for token in added
        if token["special"] or kind == "Unigram"
    ]
    special += [AddedToken(token, special=True, normalized=False) for token in new_special_tokens]
    options = {"show_progress": console.interactive(), **_empty(rules["model"], renamed), **options}
    if "ByteLevel" in json.dumps(rules["pre_tokenizer"]):
        options.setdefault("initial_alphabet", pre_tokenizers.ByteLevel.alphabet())
    crate = Crate.from_str(json.dumps({**rules, "added_tokens": [], "post_processor": None}))
    trainer = TRAINERS[kind](vocab_size=vocab_size, special_tokens=special, **options)
    crate.train_from_iterator(texts, trainer=trainer, length=length)
    learned = json.loads(crate.to_str())
    learned["post_processor"] = _renumbered(processor, renamed, crate)
    roles = {role: renamed.get(token, token) for role in ROLES if (token := getattr(tokenizer, role)) is not None}
    return Made(
        CrateEngine(Crate.from_str(json.dumps(learned))),
        roles=roles,
        additional=[renamed.get(token, token) for token in tokenizer.additional_special_tokens]
        + list(new_special_tokens),
        model_input_names=tokenizer.model_input_names,
        model_max_length=tokenizer.model_max_length,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        clean_up_tokenization_spaces=tokenizer.clean_up_tokenization_spaces,
        chat_template=tokenizer.chat_template,
        init_kwargs={key: value for key, value in config(tokenizer).items() if key != "added_tokens_decoder"},
    )


def _flags(token: Mapping[str, Any]) -> dict[str, Any]:
    names = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return {name: token[name] for name in names}


def _empty(model: dict[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """Take the vocabulary out of a model, in place; returns what its trainer must be told."""
    told: dict[str, Any] = {}
    if model["type"] == "Unigram":
        if model["unk_id"] is not None:
            unknown = model["vocab"][model["unk_id"]][0]
            unknown = told["unk_token"] = renamed.get(unknown, unknown)
            model["unk_id"], model["vocab"] = 0, [[unknown, 0.0]]
        return told
    model["vocab"] = {}
    if model["type"] == "BPE":
        model["merges"] = []
    if model.get("unk_token") in renamed:
        model["unk_token"] = renamed[model["unk_token"]]
    for option in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(option) is not None and model["type"] in ("BPE", "WordPiece"):
            told[option] = model[option]
    return told


def _renumbered(processor: Any, renamed: Mapping[str, str], crate: Crate) -> Any:
    """A post-processor of tokenizer.json with the ids that its special tokens have now."""
    if processor is None:
        return None
    made = dict(processor)
    if made["type"] == "Sequence":
        made["processors"] = [_renumbered(part, renamed, crate) for part in made["processors"]]
    for role in ("cls", "sep"):
        if role in made:
            token = renamed.get(made[role][0], made[role][0])
            made[role] = [token, crate.token_to_id(token)]
    if "special_tokens" in made:
        special = {}
        for key, value in made["special_tokens"].items():
            tokens = [renamed.get(token, token) for token in value["tokens"]]
            ids = [crate.token_to_id(token) for token in tokens]
            special[key] = {"id": value["id"], "tokens": tokens, "ids": ids}
        made["special_tokens"] = special
    return made
