"""What happens in a model while it reads one text, as numbers, complete.

Shapes: L layers as they run, H heads, T tokens, D width, V words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from plait.errors import OptionError
from plait.models.registry import family_of
from plait.nn.heads import LanguageHead
from plait.nn.topology import EncoderDecoderModel
from plait.text.letters import bytes_of_letters

if TYPE_CHECKING:
    from plait.models.config import Config
    from plait.nn.stack import Stack

_CHOICES = 3  # words shown of what a layer would say


@dataclass(frozen=True, kw_only=True)
class Look:
    """One text in one model.

    `tokens` are the T pieces of the text. `attentions` (L, H, T, T): how much of each token (last) the one before it
    takes up. `norms` (L + 1, T): the length of each token's vector before the layers, between them and at the end.
    `entropies` (L, H): the mean over tokens of the entropy of attention in bits; 0 looks at one token, log2(T) at all
    alike. `sayings`, for language models: for each of the L + 1 states and each token the likeliest words with their
    probabilities, were the layers behind it left out; None for other models.
    """

    title: str
    tokens: list[str]
    attentions: Tensor
    norms: Tensor
    entropies: Tensor
    sayings: list[list[list[tuple[str, float]]]] | None

    @property
    def layers(self) -> int:
        """How many layers the text passes through."""
        return self.attentions.shape[0]


@torch.no_grad()
def look(model: Any, tokenizer: Any, text: str, *, title: str = "") -> Look:
    """Read `text` and note what happens; of a model with two stacks, in its encoder.

    Raises OptionError for a text without tokens, and for a model in training, whose dropout would be looked at.
    """
    if model.training:
        raise OptionError("The model is in training mode, where dropout is random. Call model.eval() first.")
    ids = tokenizer(text, return_tensors="pt")["input_ids"].to(model.device)
    if not ids.shape[1]:
        raise OptionError("The text has no tokens: there is nothing to look at.")
    both = {"output_attentions": True, "output_hidden_states": True}
    two = isinstance(model.network, EncoderDecoderModel)
    output = model.encode(ids, **both) if two else model(ids, use_cache=False, **both)
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
    )


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
    return text.strip() or text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥") or raw


def task_of(config: Config) -> str:
    """The task that a checkpoint was made for, as its `architectures` say; the bare network where they do not."""
    named = config.architectures or []
    heads = family_of(config.model_type, label=config.label).HEADS
    return next((task for task, head in heads.items() if head.architecture in named), "base")
