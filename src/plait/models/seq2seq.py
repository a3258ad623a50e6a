"""An encoder and a decoder under the names that users know, complete: arguments in, outputs out, and generation.

`Seq2SeqModel` translates `input_ids`, `decoder_input_ids` and the others to the network's own words and computes the
loss. Shapes: B batch, S tokens of the source, T tokens of the target, D width.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from plait.errors import OptionError
from plait.models.asked import kept
from plait.models.config import Config
from plait.models.head_mask import head_factors, heads_multiplied, masked
from plait.models.inputs import check_ids, valid_tokens
from plait.models.outputs import Output
from plait.models.pretrained import Pretrained
from plait.models.reading import Reading
from plait.models.shift import shifted
from plait.models.tasks import TASKS, whole_numbers
from plait.nn.cache import Cache
from plait.nn.record import Recorder
from plait.nn.topology import EncoderDecoderModel, Hidden

if TYPE_CHECKING:
    from plait.generate import GenerationConfig

# what an answer begins with, whichever is set
_STARTS = ("decoder_start_token_id", "bos_token_id")
# tasks whose labels are what the decoder writes, and tasks in which it reads the source as well, one place later
_WRITTEN = ("seq2seq_lm", "masked_lm")
_READ_TWICE = ("sequence_classification", "question_answering", "masked_lm")
_ENCODED = ("last_hidden_state", "hidden_states", "attentions")
_EXTRAS = (
    "past_key_values",
    *("decoder_hidden_states", "decoder_attentions", "cross_attentions"),
    *("encoder_last_hidden_state", "encoder_hidden_states", "encoder_attentions"),
)


class Seq2SeqModel(Pretrained):
    """One task of one family of an encoder and a decoder. Made by `AutoModel….from_pretrained` or `from_config`."""

    generates = ("seq2seq_lm", "AutoModelForSeq2SeqLM")
    network: EncoderDecoderModel

    def __init__(self, config: Config, *, task: str, network: EncoderDecoderModel) -> None:
        super().__init__(config, task=task)
        self.network = network

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def layers(self) -> nn.ModuleList:
        """The layers, first to last: the encoder's, then the decoder's."""
        return nn.ModuleList([*self.network.encoder.layers, *self.network.decoder.layers])

    @property
    def base_model(self) -> Seq2SeqModel:
        """The network without the head of its task, sharing every parameter; the model itself when it has none."""
        if self.task == "base":
            return self
        network = copy.copy(self.network)
        network._modules = {**self.network._modules, "pool": None, "head": None}
        network.spec = replace(network.spec, pool=None, head=None)
        base = Seq2SeqModel(self.config, task="base", network=network)
        base.training, base._main = self.training, self._main
        return base

    def get_input_embeddings(self) -> nn.Embedding:
        """The embedding of the source's tokens."""
        return self.network.encoder.frontend.tokens

    def _scored_embedding(self) -> nn.Embedding:
        return self.network.decoder.frontend.tokens

    def _behind(self, last: int) -> Iterable[nn.Module | None]:
        network = self.network
        whole_decoder = last > len(network.decoder.layers)
        return network.decoder.norm, network.pool, network.head, network.encoder.norm if whole_decoder else None

    # -- forward ------------------------------------------------------------------------------------------------------

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        *,
        encoder_outputs: Any = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        head_mask: Tensor | None = None,
        decoder_head_mask: Tensor | None = None,
        cross_attn_head_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int = 0,
    ) -> Any:
        """An `Output`, or with `return_dict=False` a tuple of the values in it.

        The source is `input_ids` (B, S), `inputs_embeds` (B, S, D), or the `encoder_outputs` of an earlier call
        (`encode`); `attention_mask` (B, S) is 0 at its padding. The target is `decoder_input_ids` (B, T) or
        `decoder_inputs_embeds` (B, T, D); where only `labels` (B, T) are given, the decoder reads them shifted by one,
        and to classify a sequence, to find an answer or a masked word it reads the source itself so.
        Labels of -100 count nothing. `decoder_attention_mask` (B, T) is 0 at padding; with a cache it may cover the
        cached tokens too. `past_key_values` is the cache of an earlier call, to which this one appends; `use_cache`
        returns it, by default outside training. `logits_to_keep` scores only that many last positions, 0 means all.
        `head_mask`, `decoder_head_mask` and `cross_attn_head_mask`, (heads,) or (layers, heads), multiply what each
        head gives: of the encoder, of the decoder, and of the decoder's attention to the encoder.
        Raises OptionError for arguments that contradict each other or the task.
        """
        answers = self._answers(labels=labels, start_positions=start_positions, end_positions=end_positions)
        keep = kept(logits_to_keep, answers)
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids, implied = self._implied_target(input_ids, attention_mask, labels)
            decoder_attention_mask = implied if decoder_attention_mask is None else decoder_attention_mask
        cache = self._cache(use_cache, past_key_values)
        source = self._source(input_ids, inputs_embeds, encoder_outputs, attention_mask)
        target = self._target(decoder_input_ids, decoder_inputs_embeds, decoder_attention_mask, cache)
        seen = self._seen(output_hidden_states, output_attentions)
        masks = {"head_mask": head_mask, "decoder_head_mask": decoder_head_mask}
        masks["cross_attn_head_mask"] = cross_attn_head_mask
        hidden = self._hidden({**source, **target, "cache": cache, "keep": keep}, seen, masks)
        values: dict[str, Any] = {**TASKS[self.task].outputs(hidden, target["targets_valid"])}
        values["past_key_values"] = cache if use_cache in (None, True) else None
        values["encoder_last_hidden_state"] = hidden.memory
        values |= {f"encoder_{name}": value for name, value in _kept(encoder_outputs).items()}
        values |= self._multiplied(seen.values(), masks)
        return self._output(values, answers, return_dict)

    if TYPE_CHECKING:
        __call__ = forward

    def _hidden(self, arguments: dict[str, Any], seen: _Seen, masks: Mapping[str, Tensor | None]) -> Hidden:
        """What the network makes of its arguments, with what is to be seen of it and the heads that are masked."""
        self._check_head_masks(*masks.values())
        with self._heads_multiplied(masks):
            return self.network(**arguments, encoder_record=seen.encoder, record=seen.decoder)

    def _output(self, values: dict[str, Any], answers: dict[str, Any], return_dict: bool | None) -> Any:
        """The values under their names, with the loss where there are answers."""
        task = TASKS[self.task]
        terms = task.loss(values, answers, self.config) if answers and task.loss else None
        if terms is not None:
            values["loss"] = terms.mean()
        output = Output((*task.fields, *_EXTRAS), values, loss_terms=terms)
        wants_tuple = not (self.config.return_dict if return_dict is None else return_dict)
        return output.to_tuple() if wants_tuple else output

    def _seen(self, states: bool | None, weights: bool | None) -> _Seen:
        asked = self._asked(states, "output_hidden_states"), self._asked(weights, "output_attentions")
        return _Seen(states=asked[0], weights=asked[1])

    def _multiplied(self, values: dict[str, Any], masks: Mapping[str, Tensor | None]) -> dict[str, Any]:
        """The values with attention weights as the masks of heads leave them."""
        for name, (stack, mask) in self._masked(masks).items():
            if name in values and mask is not None:
                values[name] = masked(values[name], head_factors(mask, len(stack)))
        return values

    def _masked(self, masks: Mapping[str, Tensor | None]) -> dict[str, tuple[nn.ModuleList, Tensor | None]]:
        """The attention weights that each mask multiplies: by name, with the layers that have them."""
        encoder, decoder = self.network.encoder.layers, self.network.decoder.layers
        return {
            "encoder_attentions": (encoder, masks["head_mask"]),
            "decoder_attentions": (decoder, masks["decoder_head_mask"]),
            "cross_attentions": (decoder, masks["cross_attn_head_mask"]),
        }

    @contextmanager
    def _heads_multiplied(self, masks: Mapping[str, Tensor | None]) -> Iterator[None]:
        parts = ("attention", "attention", "cross")
        pairs = zip(parts, masks, self._masked(masks).values(), strict=True)
        with ExitStack() as stack:
            for part, name, (layers, mask) in pairs:
                stack.enter_context(heads_multiplied(layers, mask, part=part, name=name))
            yield

    def encode(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> Output:
        """What the encoder makes of a source, to be passed as `encoder_outputs`: its `last_hidden_state` (B, S, D)."""
        source = self._source(input_ids, inputs_embeds, None, attention_mask)
        seen = self._seen(output_hidden_states, output_attentions)
        memory = self.network.encode(
            source["tokens"], embeddings=source["embeddings"], valid=source["valid"], record=seen.encoder
        )
        return Output(_ENCODED, {"last_hidden_state": memory, **seen.of(seen.encoder)})

    def get_encoder(self) -> Any:
        """`encode`, under the usual name."""
        return self.encode

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """What the decoder reads while it learns to write `labels` (B, T): the same, one place later."""
        return shifted(labels, self.config)

    def _implied_target(
        self, source: Tensor | None, mask: Tensor | None, labels: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """What the decoder reads where nobody says it, if the task implies it, and which of it is no padding."""
        words, valid = (source, mask) if self.task in _READ_TWICE else (None, None)
        if labels is not None and self.task in _WRITTEN:
            words, valid = labels, None
        if words is None:
            return None, None
        whole_numbers(words, self.network.spec.decoder.frontend.vocabulary)
        return self.prepare_decoder_input_ids_from_labels(words), valid

    def _source(
        self, tokens: Tensor | None, embeddings: Tensor | None, encoded: Any, mask: Tensor | None
    ) -> dict[str, Tensor | None]:
        """The arguments of the network about the source."""
        if sum(part is not None for part in (tokens, embeddings, encoded)) != 1:
            raise OptionError("Give exactly one of input_ids, inputs_embeds and encoder_outputs.")
        memory = None if encoded is None else _memory(encoded)
        width = self.network.spec.encoder.width
        _check_shape("input_ids", tokens, None)
        _check_shape("inputs_embeds", embeddings, width)
        _check_shape("encoder_outputs", memory, width)
        first = next(part for part in (tokens, embeddings, memory) if part is not None)
        valid = valid_tokens(mask, first.shape[0], first.shape[1])
        embeddings = None if embeddings is None else embeddings.to(self.dtype)
        return {"tokens": tokens, "embeddings": embeddings, "memory": memory, "valid": valid}

    def _target(
        self, tokens: Tensor | None, embeddings: Tensor | None, mask: Tensor | None, cache: Cache | None
    ) -> dict[str, Tensor | None]:
        """The arguments of the network about the target."""
        given = tokens if tokens is not None else embeddings
        if given is None or (tokens is not None and embeddings is not None):
            raise OptionError(
                "The decoder needs exactly one of decoder_input_ids and decoder_inputs_embeds, or labels, from which "
                "it makes its own input. To let the model write, call generate(input_ids)."
            )
        _check_shape("decoder_input_ids", tokens, None)
        _check_shape("decoder_inputs_embeds", embeddings, self.network.spec.decoder.width)
        start, count = cache.length if cache else 0, given.shape[1]
        valid = valid_tokens(mask, given.shape[0], count, start=start, name="decoder_attention_mask")
        positions = None
        if cache is not None and (valid is not None or not cache.plain):
            positions = torch.arange(start, start + count, device=given.device)[None]
        return {
            "targets": tokens,
            "target_embeddings": None if embeddings is None else embeddings.to(self.dtype),
            "targets_valid": valid,
            "target_positions": positions,
        }

    def _cache(self, use_cache: bool | None, given: Cache | None) -> Cache | None:
        """The cache to read and fill: the given one, or a new one where it is wanted back."""
        if given is not None and not isinstance(given, Cache):
            raise OptionError(
                f"`past_key_values` must be the cache that an earlier call returned, but is a {type(given).__name__}."
            )
        if use_cache is None:
            quiet = not self.training and not torch.is_grad_enabled()
            use_cache = quiet and self.task == "seq2seq_lm" and bool(self.config.get("use_cache", True))
        return Cache(len(self.network.decoder.layers)) if given is None and use_cache else given

    # -- generation ---------------------------------------------------------------------------------------------------

    def generate(
        self,
        inputs: Tensor | None = None,
        *,
        attention_mask: Tensor | None = None,
        encoder_outputs: Any = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        **options: Any,
    ) -> Any:
        """Write an answer to each row of source ids (B, S), padded on either side: its token ids (B, 1 + n).

        The encoder runs once. The answer begins with `decoder_start_token_id`, or with `decoder_input_ids` (B, T) where
        they are given, the start token put in front if they lack it. `options` are those of `plait.generate.generate`.
        Raises OptionError for a model of another task, or when nothing says how an answer begins.
        """
        from plait.generate import GenerationConfig, generate

        self._require_generation()
        source = inputs if inputs is not None else options.pop("input_ids", None)
        reading = self.read(source, attention_mask=attention_mask, encoder_outputs=encoder_outputs)
        generation_config = (generation_config or GenerationConfig()).over(self.generation_config)
        starts = (options.get(name, getattr(generation_config, name)) for name in _STARTS)
        start = next((token for token in starts if token is not None), None)
        if decoder_input_ids is None and start is None:
            raise OptionError(
                "Nothing says how an answer begins: pass decoder_start_token_id=…, which the configuration lacks."
            )
        rows, device = reading.memory.shape[0], reading.memory.device
        if decoder_input_ids is None:
            decoder_input_ids = torch.empty(rows, 0, dtype=torch.long, device=device)
        if start is not None and not bool((decoder_input_ids[:, :1] == start).any()):
            beginning = torch.full((rows, 1), start, device=device)
            decoder_input_ids = torch.cat([beginning, decoder_input_ids], dim=1)
            if decoder_attention_mask is not None:
                decoder_attention_mask = nn.functional.pad(decoder_attention_mask, (1, 0), value=1)
        return generate(
            reading,
            decoder_input_ids,
            attention_mask=decoder_attention_mask,
            generation_config=generation_config,
            **options,
        )

    @torch.no_grad()
    def read(
        self, input_ids: Tensor | None, *, attention_mask: Tensor | None = None, encoder_outputs: Any = None
    ) -> Reading:
        """The decoder bound to one batch of sources, for `plait.generate`'s functions."""
        if encoder_outputs is None:
            if not isinstance(input_ids, Tensor):
                raise OptionError(
                    f"`input_ids` must be a tensor (B, S), but is a {type(input_ids).__name__}. Use "
                    "return_tensors='pt'."
                )
            encoder_outputs = self.encode(input_ids, attention_mask)
        source = self._source(None, None, encoder_outputs, attention_mask)
        memory = source["memory"]
        assert memory is not None
        return Reading(self.network, memory, source["valid"], generation_config=self.generation_config)


class _Seen:
    """What the two stacks note in one forward: hidden states and attention weights, as far as they are asked for."""

    def __init__(self, *, states: bool, weights: bool) -> None:
        self.states, self.weights = states, weights
        self.encoder = Recorder(attentions=weights) if states or weights else None
        self.decoder = Recorder(attentions=weights) if states or weights else None

    def of(self, record: Recorder | None) -> dict[str, Any]:
        """What one of the two noted; nothing of a stack that did not run."""
        if record is None or not record.states:
            return {}
        values: dict[str, Any] = {"hidden_states": tuple(record.states)} if self.states else {}
        if record.attentions is not None:
            values["attentions"] = tuple(record.attentions)
        return values

    def values(self) -> dict[str, Any]:
        """All of it, by the names of outputs."""
        sides = {"encoder": self.encoder, "decoder": self.decoder}
        values = {f"{side}_{name}": value for side, record in sides.items() for name, value in self.of(record).items()}
        if self.weights and self.decoder is not None:
            values["cross_attentions"] = tuple(self.decoder.cross_attentions or ())
        return values


def _memory(encoded: Any) -> Tensor:
    """The states in `encoder_outputs`: an `Output`, a dictionary, a tuple that begins with them, or they alone."""
    if isinstance(encoded, Mapping):
        encoded = encoded.get("last_hidden_state")
    elif isinstance(encoded, Sequence) and encoded:
        encoded = encoded[0]
    if not isinstance(encoded, Tensor):
        raise OptionError(
            f"`encoder_outputs` must be what encode() returned, or its states (B, S, D), but holds a "
            f"{type(encoded).__name__}."
        )
    return encoded


def _kept(encoded: Any) -> dict[str, Any]:
    """What else `encoder_outputs` hold, to be handed on."""
    return {name: encoded[name] for name in _ENCODED[1:] if name in encoded} if isinstance(encoded, Mapping) else {}


def _check_shape(name: str, value: Tensor | None, width: int | None) -> None:
    """Ids are (B, T); vectors (B, T, `width`)."""
    if value is None:
        return
    if width is None:
        check_ids(name, value)
    expected = "(B, T)" if width is None else f"(B, T, {width})"
    if value.dim() != (2 if width is None else 3) or (width is not None and value.shape[2] != width):
        raise OptionError(f"`{name}` must have the shape {expected}, but has {tuple(value.shape)}.")
