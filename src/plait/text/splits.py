"""How byte-level BPE tokenizers split a text into words, complete: one published rule per row, found by name.

The names are those that GGUF files give in `tokenizer.ggml.pre`; names that share a rule share a row. The rules are
those of the models' own tokenizer.json. https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, normalizers, pre_tokenizers

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _REST
QWEN2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _REST
QWEN35 = (
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SLASH_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}" + _SLASH_REST
GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?|\p{{N}}{{1,3}}" + _SLASH_REST
)
SEED_CODER = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
BAILING = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
DEEPSEEK3 = (
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
)
DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}")


@dataclass(frozen=True, kw_only=True)
class Split:
    """One rule. `composed`: the text is brought to NFC first. `whole`: a word that is a token needs no merges."""

    make: Callable[[], Any]
    composed: bool = False
    whole: bool = False
    begins: bool = False  # a text begins with the bos token unless the file says otherwise

    def normalizer(self) -> Any:
        """What happens to the text before it is split."""
        return normalizers.NFC() if self.composed else None


def by_regex(*expressions: str) -> Callable[[], Any]:
    """Words by regular expressions, one after the other, then bytes as letters."""

    def make() -> Any:
        steps: list[Any] = [pre_tokenizers.Split(Regex(text), behavior="isolated") for text in expressions]
        return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])

    return make


def gpt2(*, prefix: bool = False) -> Any:
    """The rule of GPT-2, which the crate has built in."""
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=True)


def _digits() -> Any:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2()])


def _falcon() -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Punctuation(behavior="contiguous"),
            gpt2(),
            pre_tokenizers.Digits(individual_digits=False),
            pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), behavior="isolated"),
        ]
    )


def _rows() -> dict[str, Split]:
    rules = {
        "gpt-2 phi-2 jina-es jina-de jina-v2-es jina-v2-de gigachat a.x-4.0 mellum exaone4 jais trillion": Split(
            make=gpt2
        ),
        "mpt olmo": Split(make=gpt2, composed=True),
        "smollm starcoder refact codeshell exaone minerva-7b": Split(make=_digits),
        "command-r": Split(make=_digits, composed=True),
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano": Split(
            make=by_regex(LLAMA3), whole=True, begins=True
        ),
        "dbrx smaug-bpe chatglm-bpe glm4": Split(make=by_regex(LLAMA3)),
        "qwen2 deepseek-r1-qwen": Split(make=by_regex(QWEN2), composed=True),
        "kormo f2llmv2 megrez stablelm2 hunyuan grok-2 solar-open": Split(make=by_regex(QWEN2)),
        "qwen35": Split(make=by_regex(QWEN35), composed=True),
        "tekken": Split(make=by_regex(TEKKEN), whole=True, begins=True),
        "gpt-4o llama4 kanana2 talkie minimax-m2": Split(make=by_regex(GPT4O)),
        "seed-coder": Split(make=by_regex(SEED_CODER)),
        "bailingmoe bailingmoe2 llada-moe": Split(make=by_regex(BAILING)),
        "deepseek-v3 hunyuan-dense joyai-llm": Split(make=by_regex(*DEEPSEEK3)),
        "deepseek-coder": Split(make=by_regex(*DEEPSEEK_CODER)),
        "bloom poro-chat gpt3-finnish": Split(make=by_regex(BLOOM)),
        "falcon": Split(make=_falcon),
    }
    return {name: split for names, split in rules.items() for name in names.split()}


SPLITS = _rows()
