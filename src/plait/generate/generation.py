"""`generate`, complete: the options of a call become processors and stops around the loop or around beam search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from plait.console import logger
from plait.errors import GenerationError, OptionError
from plait.generate.beam import BeamRules, Beams, found, search
from plait.generate.loop import check_prompt, generate_tokens
from plait.generate.naive import Uncached
from plait.generate.processors import (
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    InfNanRemoveLogitsProcessor,
    LogitNormalization,
    LogitsProcessorList,
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    Processor,
    Recorder,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from plait.generate.protocol import LanguageModel
from plait.generate.sampling import Multinomial, Sampler, greedy, highest
from plait.generate.settings import RANKING, SAMPLING, GenerationConfig
from plait.generate.stopping import (
    EosTokenCriteria,
    MaxTimeCriteria,
    Stop,
    StoppingCriteriaList,
    StopStringCriteria,
    StopStringsOfBeams,
)

DEFAULT_NEW_TOKENS = 20


class GenerateOutput(dict[str, Any]):
    """The result of `generate(…, return_dict_in_generate=True)`, read by key or attribute.

    `sequences` (B, T + n); with `output_scores` and `output_logits`, `scores` and `logits` are tuples of n tensors
    (B, V): after and before the processors. Of beam search there are also `beam_indices` (B, n), which row of `scores`
    each token was chosen from (-1 behind an answer's end), and, with `output_scores`, `sequences_scores` (B,): the sum
    of the scores of an answer's tokens, divided by their number to the power of `length_penalty`.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"This output has no {name!r}; it holds {sorted(self)}.") from None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A call of `generate`, ready to run: prompts (B, T) and what surrounds the loop, or beam search with `rules`."""

    tokens: Tensor
    valid: Tensor | None
    processors: LogitsProcessorList
    sampler: Sampler
    stop: Stop | None
    max_new_tokens: int
    pad_token_id: int
    use_cache: bool
    rules: BeamRules | None = None

    def steps(self, model: LanguageModel) -> Iterator[Tensor]:
        """Run the loop: the ids (B,) of each next token."""
        return generate_tokens(model if self.use_cache else Uncached(model), sampler=self.sampler, **self._common)

    def search(self, model: LanguageModel, rules: BeamRules) -> Iterator[Beams]:
        """Run beam search: what is known after each step."""
        choose = self.sampler.several if isinstance(self.sampler, Multinomial) else highest
        return search(model if self.use_cache else Uncached(model), choose=choose, rules=rules, **self._common)

    @property
    def _common(self) -> dict[str, Any]:
        names = ("tokens", "valid", "processors", "stop", "max_new_tokens", "pad_token_id")
        return {name: getattr(self, name) for name in names}


def plan(
    config: GenerationConfig,
    input_ids: Tensor,
    *,
    attention_mask: Tensor | None = None,
    logits_processor: Sequence[Processor] = (),
    stopping_criteria: Sequence[Stop] = (),
    tokenizer: Any = None,
    generator: torch.Generator | None = None,
    seed: int | None = None,
) -> Plan:
    """From options to processors, stops and a sampler. Raises GenerationError for options that cannot be met."""
    config.refuse_unsupported()
    valid = check_prompt(input_ids, attention_mask)
    limit = new_tokens(config, input_ids.shape[1])
    config = config.updated(max_new_tokens=limit)
    rules = build_rules(config)
    rows, validity = (
        _repeated(part, max(config.num_beams, config.num_return_sequences)) for part in (input_ids, valid)
    )
    assert rows is not None
    return Plan(
        tokens=rows if rules is None else input_ids,  # beam search makes its own rows of one reading of the prompt
        valid=validity if rules is None else valid,
        processors=build_processors(config, rows, validity, logits_processor),
        sampler=build_sampler(config, input_ids.device, generator, seed),
        stop=build_stop(config, stopping_criteria, tokenizer, width=input_ids.shape[1]),
        max_new_tokens=limit,
        pad_token_id=_padding(config),
        use_cache=config.use_cache,
        rules=rules,
    )


def _repeated(rows: Tensor | None, times: int) -> Tensor | None:
    return rows if rows is None or times == 1 else rows.repeat_interleave(times, dim=0)


def build_rules(config: GenerationConfig) -> BeamRules | None:
    """The rules of the beam search that `config` asks for; None where it asks for a single answer.

    Raises GenerationError for more answers than there are.
    """
    if config.num_beams == 1:
        if config.num_return_sequences > 1 and not config.do_sample:
            raise GenerationError(
                "`num_return_sequences` above 1 needs do_sample=True or as many num_beams: greedy decoding has one "
                "answer."
            )
        return None
    if config.num_return_sequences > config.num_beams:
        raise GenerationError(
            f"`num_return_sequences={config.num_return_sequences}` is more than `num_beams={config.num_beams}`, the "
            "number of answers that beam search finds. Raise num_beams, or draw with do_sample=True, num_beams=1."
        )
    return BeamRules(
        beams=config.num_beams,
        length_penalty=config.length_penalty,
        early_stopping=config.early_stopping,
        ends=tuple(config.eos_token_ids()),
    )


def generate(
    model: LanguageModel,
    input_ids: Tensor,
    *,
    attention_mask: Tensor | None = None,
    generation_config: GenerationConfig | None = None,
    logits_processor: Sequence[Processor] = (),
    stopping_criteria: Sequence[Stop] = (),
    streamer: Any = None,
    tokenizer: Any = None,
    generator: torch.Generator | None = None,
    seed: int | None = None,
    token_type_ids: Tensor | None = None,
    **options: Any,
) -> Tensor | GenerateOutput:
    """Continue each row of `input_ids` (B, T); returns the prompts and what follows, (B, T + n), padded at the end.

    `attention_mask` (B, T) is 0 at padding, which must be on the left. `options` are those of `GenerationConfig` and
    change `generation_config`, and what neither says is as in the model's own. `seed` or `generator` make sampling
    repeatable. `tokenizer` is needed for `stop_strings`. Without a limit, 20 tokens are generated, and a log line says
    so. With `num_beams` above 1, answers grow side by side and the `num_return_sequences` best are returned, which
    excludes a `streamer`. Raises OptionError for an unknown option, GenerationError for one that cannot be met.
    """
    config = config_of(model, generation_config, options)
    if streamer is not None:
        config.refuse_beams()
    if token_type_ids is not None and bool(token_type_ids.any()):
        raise GenerationError("`token_type_ids` other than 0 mean nothing to a decoder; leave them out of generate.")
    planned = plan(
        config,
        input_ids,
        attention_mask=attention_mask,
        logits_processor=logits_processor,
        stopping_criteria=stopping_criteria,
        tokenizer=tokenizer,
        generator=generator,
        seed=seed,
    )
    raw, scores = Recorder(), Recorder()
    if config.output_logits:
        planned.processors.insert(0, raw)
    if config.output_scores:
        planned.processors.append(scores)
    if planned.rules is None:
        output = {"sequences": _continued(planned, model, streamer)}
    else:
        output = _searched(planned, model, planned.rules, config)
    if not config.return_dict_in_generate:
        return output["sequences"]
    recorded = {"scores": scores} if config.output_scores else {}
    recorded |= {"logits": raw} if config.output_logits else {}
    return GenerateOutput(output, **{name: tuple(record.steps) for name, record in recorded.items()})


def _continued(planned: Plan, model: LanguageModel, streamer: Any) -> Tensor:
    """The prompts and what the loop puts behind them, (B, T + n); the streamer hears of each token."""
    columns = [planned.tokens]
    try:
        if streamer is not None:
            streamer.put(planned.tokens.cpu())
        for ids in planned.steps(model):
            columns.append(ids[:, None])
            if streamer is not None:
                streamer.put(ids.cpu())
    finally:
        if streamer is not None:
            streamer.end()  # also after an error, or the thread that reads the text would wait for ever
    return torch.cat(columns, dim=1)


def _searched(planned: Plan, model: LanguageModel, rules: BeamRules, config: GenerationConfig) -> dict[str, Tensor]:
    """The best answers of beam search, and what is known of them."""
    for beams in planned.search(model, rules):
        last = beams
    sequences, scores, origins = found(last, prompt=planned.tokens.shape[1], count=config.num_return_sequences)
    known = {"sequences_scores": scores} if config.output_scores else {}
    return {"sequences": sequences, **known, "beam_indices": origins}


def config_of(model: Any, given: GenerationConfig | None, options: Mapping[str, Any]) -> GenerationConfig:
    """The options of one call: `options`, over `given`, over the model's own, over the defaults."""
    own = getattr(model, "generation_config", None)
    config = GenerationConfig(**options).over(given.over(own) if given is not None else own)
    for names, acts, needed in (
        (SAMPLING, config.do_sample, "do_sample=True"),
        (RANKING, config.num_beams > 1, "num_beams above 1"),
    ):
        idle = [] if acts else [name for name in names if options.get(name) is not None]
        if idle:
            logger("generate").warning("%s: no effect without %s", ", ".join(idle), needed)
    return config


def new_tokens(config: GenerationConfig, width: int) -> int:
    """How many tokens may follow a prompt of `width` tokens."""
    if config.max_new_tokens is not None:
        return config.max_new_tokens
    if config.max_length is None:
        logger("generate").warning(
            "no max_new_tokens was given, so at most %d tokens are generated", DEFAULT_NEW_TOKENS
        )
        return DEFAULT_NEW_TOKENS
    if config.max_length <= width:
        raise GenerationError(
            f"The prompt has {width} tokens, which leaves none of `max_length={config.max_length}`. "
            "Raise max_length, or say max_new_tokens, which does not count the prompt."
        )
    return config.max_length - width


def build_processors(
    config: GenerationConfig, prompt: Tensor, valid: Tensor | None, own: Sequence[Processor] = ()
) -> LogitsProcessorList:
    """The processors that `config` asks for, in the customary order: constraints, the caller's `own`, then sampling.

    `prompt` (B, T) and its `valid` (B, T) say where the text of each row begins. For beam search they work on
    log-probabilities.
    """
    width, ends = prompt.shape[1], config.eos_token_ids()
    skipped = None if valid is None else valid.int().argmax(dim=-1)  # (B,) tokens of padding
    chosen = LogitsProcessorList([LogitNormalization()] if config.num_beams > 1 else [])
    if config.repetition_penalty not in (None, 1.0):
        chosen.append(RepetitionPenaltyLogitsProcessor(config.repetition_penalty, skipped))
    if config.no_repeat_ngram_size:
        chosen.append(NoRepeatNGramLogitsProcessor(config.no_repeat_ngram_size, skipped))
    if config.bad_words_ids:
        chosen.append(NoBadWordsLogitsProcessor(config.bad_words_ids, ends))
    if config.min_length and ends:
        chosen.append(MinLengthLogitsProcessor(config.min_length, ends))
    if config.min_new_tokens and ends:
        chosen.append(MinNewTokensLengthLogitsProcessor(width, config.min_new_tokens, ends))
    if config.forced_bos_token_id is not None:
        chosen.append(ForcedBOSTokenLogitsProcessor(config.forced_bos_token_id))
    if config.forced_eos_token_id is not None:
        chosen.append(ForcedEOSTokenLogitsProcessor(width + new_tokens(config, width), config.forced_eos_token_id))
    if config.remove_invalid_values:
        chosen.append(InfNanRemoveLogitsProcessor())
    if config.suppress_tokens:
        chosen.append(SuppressTokensLogitsProcessor(config.suppress_tokens))
    if config.begin_suppress_tokens:
        begin = width + (width == 1 and config.forced_bos_token_id is not None)
        chosen.append(SuppressTokensAtBeginLogitsProcessor(config.begin_suppress_tokens, begin))
    chosen.extend(own)
    if config.do_sample:
        chosen.extend(_warpers(config))
    if config.renormalize_logits:
        chosen.append(LogitNormalization())
    return chosen


def _warpers(config: GenerationConfig) -> list[Processor]:
    warpers: list[Processor] = []
    # Every beam keeps a token to go on with beside all that end it.
    keep = 1 if config.num_beams == 1 else max(2, 1 + len(config.eos_token_ids()))
    if config.temperature not in (None, 1.0):
        warpers.append(TemperatureLogitsWarper(config.temperature))
    if config.top_k:
        warpers.append(TopKLogitsWarper(config.top_k, min_tokens_to_keep=keep))
    if config.top_p is not None and config.top_p < 1:
        warpers.append(TopPLogitsWarper(config.top_p, min_tokens_to_keep=keep))
    if config.min_p:
        warpers.append(MinPLogitsWarper(config.min_p, min_tokens_to_keep=keep))
    return warpers


def build_stop(
    config: GenerationConfig, own: Sequence[Stop] = (), tokenizer: Any = None, *, width: int = 0
) -> Stop | None:
    """What ends a row before the limit; None when nothing does.

    `config.stop_strings` needs the tokenizer, and for beam search, whose rules hold the end tokens, the `width` of the
    prompts.
    """
    beams = config.num_beams > 1
    stops = StoppingCriteriaList(
        StopStringsOfBeams(stop.tokenizer, stop.strings, start=width)
        if beams and isinstance(stop, StopStringCriteria)
        else stop
        for stop in own
    )
    if (ends := config.eos_token_ids()) and not beams:
        stops.append(EosTokenCriteria(ends))
    if config.max_time is not None:
        stops.append(MaxTimeCriteria(config.max_time))
    if config.stop_strings:
        if tokenizer is None:
            raise OptionError("`stop_strings` are compared with text: pass tokenizer=… to generate as well.")
        stops.append(
            StopStringsOfBeams(tokenizer, config.stop_strings, start=width)
            if beams
            else StopStringCriteria(tokenizer, config.stop_strings)
        )
    return stops[0] if len(stops) == 1 and not own else stops or None


def build_sampler(
    config: GenerationConfig, device: torch.device, generator: torch.Generator | None = None, seed: int | None = None
) -> Sampler:
    """Greedy, or a draw from `generator`, from a new one with `seed`, or from torch's global state."""
    if not config.do_sample:
        return greedy
    if generator is not None and seed is not None:
        raise OptionError("`seed` and `generator` exclude each other: a generator carries its own seed.")
    if seed is not None:
        generator = torch.Generator(device=device).manual_seed(seed)
    return Multinomial(generator)


def _padding(config: GenerationConfig) -> int:
    if config.pad_token_id is not None:
        return config.pad_token_id
    return next(iter(config.eos_token_ids()), 0)
