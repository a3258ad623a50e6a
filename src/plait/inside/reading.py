"""What happens in a model while it reads one text, as numbers, complete.

Shapes: L layers as they run, H heads, T tokens, D width, V words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from plait.console import logger
from plait.errors import OptionError
from plait.models.registry import family_of
from plait.nn.heads import LanguageHead
from plait.nn.topology import EncoderDecoderModel
from plait.text.letters import bytes_of_letters
from plait.text.sentencepiece import SPACE
from plait.text.tables import TableTokenizer

if TYPE_CHECKING:
    from plait.models.config import Config
    from plait.nn.stack import Stack

MOST_TOKENS = 512  # maps of more are neither read nor held: L layers of H heads take L × H × T² numbers
_CHOICES = 3  # words shown of what a layer would say


@dataclass(frozen=True, kw_only=True)
class Look:
    """One text in one model.

    `tokens` are the T pieces of the text. `attentions` (L, H, T, T): how much of each token (last) the one before it
    takes up. `norms` (L + 1, T): the length of each token's vector before the layers, between them and at the end.
    `entropies` (L, H): the mean over tokens of the entropy of attention in bits; 0 looks at one token, log2(T) at all
    alike. `sayings`, for language models: for each of the L + 1 states and each token the likeliest words with their
    probabilities, were the layers behind it left out; None for other models. They are the words that come next, or
    with `in_place`, for models of masked words, those in the token's own place. `left_out` tokens were too many to be
    read. `stack` is "encoder" for a model of two stacks, of which that one was looked at.
    """

    title: str
    tokens: list[str]
    attentions: Tensor
    norms: Tensor
    entropies: Tensor
    sayings: list[list[list[tuple[str, float]]]] | None
    in_place: bool = False
    left_out: int = 0
    stack: str = ""

    @property
    def layers(self) -> int:
        """How many layers the text passes through."""
        return self.attentions.shape[0]


@torch.no_grad()
def look(model: Any, tokenizer: Any, text: str, *, table: Any = None, title: str = "") -> Look:
    """Read `text` and note what happens; of a model with two stacks, in its encoder.

    A model of questions on tables reads a `table` with it, as its tokenizer takes one. Beyond `MOST_TOKENS`, or what
    the model reads where that is less, a text is cut, and a table loses rows; the log says so.
    Raises OptionError for a text without tokens, for a table where none is read and the reverse, and for a model in
    training, whose dropout would be looked at.
    """
    if model.training:
        raise OptionError("The model is in training mode, where dropout is random. Call model.eval() first.")
    inputs, left_out = _read(tokenizer, text, table)
    inputs = {name: part.to(model.device) for name, part in inputs.items()}
    ids = inputs.pop("input_ids")
    both = {"output_attentions": True, "output_hidden_states": True}
    two = isinstance(model.network, EncoderDecoderModel)
    output = model.encode(ids, **both) if two else model(ids, **inputs, use_cache=False, **both)
    # each (1, H, T, T) -> (L, H, T, T)
    attentions = torch.cat([part.float().cpu() for part in output.attentions])
    states = [part[0].float().cpu() for part in output.hidden_states]
    # p log2 p is 0 where p is.
    entropies = -(attentions * attentions.clamp(min=1e-30).log2()).sum(dim=-1).mean(dim=-1)
    return Look(
        title=title or model.config.model_type,
        tokens=[piece(tokenizer, index) for index in ids[0].tolist()],
        attentions=attentions,
        norms=torch.stack([part.norm(dim=-1) for part in states]),
        entropies=entropies,
        sayings=None if two else _sayings(model, tokenizer, output.hidden_states),
        in_place=model.task == "masked_lm",
        left_out=left_out,
        stack="encoder" if two else "",
    )


def _read(tokenizer: Any, text: str, table: Any) -> tuple[dict[str, Tensor], int]:
    """What the model takes of a text or a question on a table, and how many tokens were too many."""
    tables = isinstance(tokenizer, TableTokenizer)
    if tables and table is None:
        raise OptionError("This model reads questions on tables: give the table as well.")
    if table is not None and not tables:
        raise OptionError("A table was given, but this model reads texts alone. Leave it out.")
    given, quiet = ((table, text), {}) if tables else ((text,), {"verbose": False})
    inputs = tokenizer(*given, return_tensors="pt", **quiet)
    count, limit = inputs["input_ids"].shape[1], min(MOST_TOKENS, tokenizer.model_max_length)
    if not count:
        raise OptionError("The text has no tokens: there is nothing to look at.")
    if count > limit:
        inputs = tokenizer(*given, truncation=True, max_length=limit, return_tensors="pt")
        logger("inside").warning("%d tokens are too many to look at: the first %d are shown.", count, limit)
    taken = ("input_ids", "token_type_ids") if tables else ("input_ids",)  # the places of cells are segments
    return {name: inputs[name] for name in taken}, count - inputs["input_ids"].shape[1]


def _sayings(model: Any, tokenizer: Any, states: tuple[Tensor, ...]) -> list[list[list[tuple[str, float]]]] | None:
    """The final norm and the head on every state (nostalgebraist 2020, "interpreting GPT: the logit lens")."""
    head = model.network.head
    if not isinstance(head, LanguageHead):
        return None
    stack: Stack = model.network.stack
    said = []
    for index, state in enumerate(states):
        behind = state if index == len(states) - 1 else stack.finished(state)
        # (1, T, V) -> twice (T, 3)
        best = head(behind)[0].float().softmax(dim=-1).topk(min(_CHOICES, head.spec.vocabulary), dim=-1)
        rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        said.append([[(piece(tokenizer, w), p) for w, p in zip(words, odds, strict=True)] for words, odds in rows])
    return said


def piece(tokenizer: Any, index: int) -> str:
    """A token as a person reads it: its text, ␣ or ⏎ for spaces alone, and the bytes of a part of a character."""
    text: str = tokenizer.decode([index])
    raw = str(tokenizer.convert_ids_to_tokens([index])[0])
    if raw.startswith("##"):
        return raw
    if "\N{REPLACEMENT CHARACTER}" in text:
        # GPT-2's alphabet has a letter for each byte; tokenizers that fall back to bytes name them, <0xE5>.
        known = bytes_of_letters()
        spelled = [known.get(letter) for letter in raw]
        return raw if None in spelled else "<" + " ".join(f"{byte:02X}" for byte in spelled if byte is not None) + ">"
    alone = text or raw.replace(SPACE, " ")
    return text.strip() or alone.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")


def task_of(config: Config) -> str:
    """The task that a checkpoint was made for, as its `architectures` say; the bare network where they do not."""
    named = config.architectures or []
    heads = family_of(config.model_type, label=config.label).HEADS
    return next((task for task, head in heads.items() if head.architecture in named), "base")
