"""A network under the names that users know, complete: arguments in, outputs out, and what one does with a model.

`PretrainedModel` translates `input_ids`, `attention_mask` and the others to the network's own words, computes the loss
of its task, and freezes, counts, saves and generates. What the network is, it does not know. Shapes: B batch, T tokens,
D width.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from plait.errors import OptionError
from plait.models.asked import Asked, kept
from plait.models.config import Config
from plait.models.head_mask import head_factors, heads_multiplied, masked
from plait.models.inputs import Inputs, packing_of
from plait.models.outputs import Output
from plait.models.pretrained import Pretrained
from plait.models.registry import family_of
from plait.models.tasks import TASKS
from plait.nn.cache import Cache
from plait.nn.moe import load_balance
from plait.nn.record import Recorder
from plait.nn.spec import MoESpec
from plait.nn.topology import Hidden, SingleModel

_EXTRAS = ("past_key_values", "hidden_states", "attentions", "router_logits", "aux_loss")


class PretrainedModel(Pretrained):
    """One task of one family of a single stack. Made by `AutoModel….from_pretrained` or `from_config`."""

    generates = ("causal_lm", "AutoModelForCausalLM")
    network: SingleModel

    def __init__(self, config: Config, *, task: str, network: SingleModel) -> None:
        super().__init__(config, task=task)
        self.network = network

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def layers(self) -> nn.ModuleList:
        """The layers, first to last."""
        return self.network.stack.layers

    @property
    def base_model(self) -> PretrainedModel:
        """The network without the head of its task, sharing every parameter; the model itself when it has none."""
        if self.task == "base":
            return self
        network = copy.copy(self.network)
        network._modules = {**self.network._modules, "head": None}
        if family_of(self.config.model_type, label=self.config.label).HEADS["base"].pool is None:
            network._modules["pool"] = None
        network.spec = replace(
            network.spec, head=None, pool=network.spec.pool if network._modules.get("pool") else None
        )
        base = PretrainedModel(self.config, task="base", network=network)
        base.training, base._main = self.training, self._main
        return base

    @property
    def causal(self) -> bool:
        """Whether a token sees only those before it."""
        return all(layer.attention.mask.causal for layer in self.network.spec.stack.layers)

    def get_input_embeddings(self) -> nn.Embedding:
        """The embedding of the tokens."""
        return self.network.stack.frontend.tokens

    def _behind(self, last: int) -> Iterable[nn.Module | None]:
        return self.network.stack.norm, self.network.pool, self.network.head

    # -- forward ------------------------------------------------------------------------------------------------------

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        next_sentence_label: Tensor | None = None,
        answers: Mapping[str, Tensor | None] | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        output_router_logits: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int = 0,
        packed: bool | None = None,
    ) -> Any:
        """An `Output`, or with `return_dict=False` a tuple of the values in it.

        `input_ids` (B, T), or `inputs_embeds` (B, T, D) in their place, whose dtype the states then have.
        `attention_mask` (B, T) is 0 at padding; with a cache it may cover the cached tokens too. `position_ids` (B or
        1, T) count from 0 when None. `head_mask` (heads,) or (layers, heads) multiplies each head's contribution.
        `past_key_values` is the cache of an earlier call, to which this one appends. `use_cache` returns the cache; by
        default a language model does so outside training. `logits_to_keep` scores only that many last positions, 0
        means all. `output_router_logits` returns the scores of every mixture of experts and, where the configuration
        has a `router_aux_loss_coef`, how unevenly they choose, which joins the loss. `packed`: whether padding is left
        out of the computation, and every output is zero there; None does so where it is possible and faster. Multiple
        choice has (B, choices, T). `answers` are answers by other names than these.
        Raises OptionError for arguments that contradict each other or the task.
        """
        found = self._answers(
            labels=labels,
            start_positions=start_positions,
            end_positions=end_positions,
            next_sentence_label=next_sentence_label,
            **(answers or {}),
        )
        given = Inputs(
            tokens=input_ids,
            embeddings=inputs_embeds,
            mask=attention_mask,
            segments=token_type_ids,
            positions=position_ids,
        )
        asked = Asked(
            hidden_states=self._asked(output_hidden_states, "output_hidden_states"),
            attentions=self._asked(output_attentions, "output_attentions"),
            router_logits=self._asked(output_router_logits, "output_router_logits"),
            keep=kept(logits_to_keep, found),
            cache=past_key_values,
            use_cache=use_cache,
            heads=head_mask,
            packed=packed,
        )
        output = self._output(given.flat() if TASKS[self.task].choices else given, found, asked)
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    if TYPE_CHECKING:
        __call__ = forward

    def _output(self, given: Inputs, answers: Mapping[str, Tensor], asked: Asked) -> Output:
        """What the network makes of the inputs, with the loss where there are answers."""
        task, record, cache = TASKS[self.task], asked.recorder(), self._cache(asked)
        arguments = given.translated(self, cache)
        self._check_head_masks(asked.heads)
        scored = task.scored(answers) if answers and task.scored else None
        packing = packing_of(
            self.network.stack, arguments, cache=cache, record=record, scored=scored, packed=asked.packed
        )
        with heads_multiplied(self.layers, asked.heads):
            hidden = self.network(**arguments, cache=cache, record=record, keep=asked.keep, packing=packing)
        values = self._named(hidden, given, arguments["valid"])
        values["past_key_values"] = cache if asked.use_cache in (None, True) else None
        terms = task.loss(values, answers, self.config) if answers and task.loss else None
        if record is not None:
            values |= self._noted(record, asked, arguments["valid"])
        if terms is not None and "aux_loss" in values:
            terms = terms.plus(self.config.router_aux_loss_coef * values["aux_loss"])
        if terms is not None:
            values["loss"] = terms.mean()
        shown = asked.hidden_states or asked.attentions or asked.cache is not None or self.training
        recall = None if shown else self._recall(arguments, asked.heads)
        return Output((*task.fields, *_EXTRAS), values, loss_terms=terms, recall=recall)

    def _named(self, hidden: Hidden, given: Inputs, valid: Tensor | None) -> dict[str, Any]:
        """The outputs of the task."""
        task = TASKS[self.task]
        values: dict[str, Any] = {**task.outputs(hidden, valid)}
        if given.embeddings is not None and "last_hidden_state" in values:
            # Whoever brings embeddings of another dtype goes on in it: a float32 layer in front of a bfloat16 network
            # and behind.
            dtype = given.embeddings.dtype
            values = {name: None if value is None else value.to(dtype) for name, value in values.items()}
        if task.choices:
            # (B * choices, 1) -> (B, choices)
            values["logits"] = values["logits"].view(-1, given.choices)
        return values

    def _cache(self, asked: Asked) -> Cache | None:
        """The cache to read and fill: that of an earlier call, or a new one where it is wanted back."""
        if asked.cache is not None and not isinstance(asked.cache, Cache):
            raise OptionError(
                "`past_key_values` must be the cache that an earlier call returned, but is a "
                f"{type(asked.cache).__name__}."
            )
        if asked.use_cache and not self.causal:
            raise OptionError(
                "`use_cache` needs a causal network: here every token sees those behind it, so nothing can be kept."
            )
        wanted = asked.use_cache
        if wanted is None:
            quiet = not self.training and not torch.is_grad_enabled()
            wanted = quiet and self.task == "causal_lm" and self.causal and bool(self.config.get("use_cache", True))
        return Cache(self.network.stack.depth) if asked.cache is None and wanted else asked.cache

    def _noted(self, record: Recorder, asked: Asked, valid: Tensor | None) -> dict[str, Any]:
        """What was asked to be noted."""
        shown = {"hidden_states": asked.hidden_states, "attentions": asked.attentions}
        values = self._routed(record, valid) if asked.router_logits else {}
        return values | {name: part for name, part in self._recorded(record, asked.heads).items() if shown[name]}

    def _recorded(self, record: Recorder, head_mask: Tensor | None) -> dict[str, Any]:
        values: dict[str, Any] = {"hidden_states": tuple(record.states)}
        if record.attentions is not None:
            of_layers = head_factors(head_mask, len(self.layers))
            factors = [of_layers[number] for number in self.network.stack.order]
            values["attentions"] = masked(record.attentions, factors)
        return values

    def _routed(self, record: Recorder, valid: Tensor | None) -> dict[str, Any]:
        """The scores by which the mixtures chose, and how unevenly they did where the configuration weighs that."""
        mixtures = [layer.mlp for layer in self.network.spec.stack.layers if isinstance(layer.mlp, MoESpec)]
        if not mixtures:
            raise OptionError("`output_router_logits` was asked for, but this model has no mixture of experts.")
        values: dict[str, Any] = {"router_logits": tuple(record.routed)}
        if self.config.get("router_aux_loss_coef") is not None:
            values["aux_loss"] = load_balance(record.routed, active=mixtures[0].active, valid=valid)
        return values

    def _recall(self, arguments: dict[str, Any], head_mask: Tensor | None) -> Any:
        """What computes hidden states and attention weights later, for an output that did not keep them."""
        grad = torch.is_grad_enabled()

        @cache
        def both() -> dict[str, Any]:
            record = Recorder(attentions=True)
            with torch.set_grad_enabled(grad), heads_multiplied(self.layers, head_mask):
                self.network(**arguments, record=record, keep=1)
            return self._recorded(record, head_mask)

        return lambda name: both()[name]

    # -- generation ---------------------------------------------------------------------------------------------------

    def generate(self, inputs: Tensor | None = None, **options: Any) -> Any:
        """Continue token ids (B, T); `options` are those of `plait.generate.generate`.

        Raises OptionError for a model of another task.
        """
        from plait.generate import generate

        self._require_generation()
        tokens = inputs if inputs is not None else options.pop("input_ids", None)
        if not isinstance(tokens, Tensor):
            raise OptionError(
                f"`input_ids` must be a tensor (B, T), but is a {type(tokens).__name__}. Use return_tensors='pt'."
            )
        return generate(self, tokens, **options)

    def new_cache(self, batch: int, *, capacity: int) -> Cache:
        """A fresh cache with room for `capacity` tokens; the caller owns it."""
        return Cache(self.network.stack.depth, capacity=capacity)

    def next_logits(
        self, tokens: Tensor, *, cache: Cache | None, valid: Tensor | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """float32 logits (B, V) of the token behind `tokens` (B, T); see `plait.generate.protocol`."""
        scores = self.network(tokens, valid=valid, positions=positions, cache=cache, keep=1).scores
        assert scores is not None
        return scores[:, -1].float()
