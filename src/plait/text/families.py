"""What a tokenizer's class name stands for, complete: special tokens by role and the columns that its models read.

Files often leave both out, because the class knows them. Here they are data: one row per class, found by the name in
tokenizer_config.json ("BertTokenizerFast" → "bert"), else by the `model_type` of config.json. A value in a file wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

IDS_AND_MASK = ("input_ids", "attention_mask")
WITH_TYPES = ("input_ids", "token_type_ids", "attention_mask")
TYPES_LAST = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True, kw_only=True)
class Family:
    """Defaults of one class of tokenizers."""

    inputs: tuple[str, ...] = IDS_AND_MASK
    roles: Mapping[str, str] = field(default_factory=dict)
    padding_side: str | None = None
    spaced_mask: bool = False  # the space before a mask token belongs to it


def _roles(**tokens: str) -> dict[str, str]:
    return {f"{role}_token": token for role, token in tokens.items()}


_BERT = _roles(unk="[UNK]", sep="[SEP]", pad="[PAD]", cls="[CLS]", mask="[MASK]")
_ROBERTA = _roles(bos="<s>", eos="</s>", unk="<unk>", sep="</s>", pad="<pad>", cls="<s>", mask="<mask>")
_T5 = _roles(eos="</s>", unk="<unk>", pad="<pad>")
_GPT2 = _roles(bos="<|endoftext|>", eos="<|endoftext|>", unk="<|endoftext|>")
_LLAMA = _roles(bos="<s>", eos="</s>", unk="<unk>")
_QWEN2 = _roles(eos="<|endoftext|>", unk="<|endoftext|>", pad="<|endoftext|>")
_GEMMA = _roles(bos="<bos>", eos="<eos>", unk="<unk>", pad="<pad>", mask="<mask>")
_ALBERT = _roles(bos="[CLS]", eos="[SEP]", unk="<unk>", sep="[SEP]", pad="<pad>", cls="[CLS]", mask="[MASK]")
_DEBERTA = _roles(bos="[CLS]", eos="[SEP]", unk="[UNK]", sep="[SEP]", pad="[PAD]", cls="[CLS]", mask="[MASK]")
_XLNET = _roles(bos="<s>", eos="</s>", unk="<unk>", sep="<sep>", pad="<pad>", cls="<cls>", mask="<mask>")
_PEGASUS = _roles(eos="</s>", unk="<unk>", pad="<pad>", mask="<mask_2>")
_CLIP = _roles(bos="<|startoftext|>", eos="<|endoftext|>", unk="<|endoftext|>", pad="<|endoftext|>")

FAMILIES: dict[str, Family] = {
    **dict.fromkeys(
        (
            "bert",
            "electra",
            "mobilebert",
            "convbert",
            "funnel",
            "layoutlm",
            "lxmert",
            "retribert",
            "squeezebert",
            "tapas",
        ),
        Family(inputs=WITH_TYPES, roles=_BERT),
    ),
    "distilbert": Family(roles=_BERT),
    "mpnet": Family(roles={**_ROBERTA, "unk_token": "[UNK]"}, spaced_mask=True),
    "deberta": Family(inputs=TYPES_LAST, roles=_DEBERTA),
    "debertav2": Family(inputs=TYPES_LAST, roles=_DEBERTA),
    "albert": Family(roles=_ALBERT, spaced_mask=True),
    **dict.fromkeys(
        ("roberta", "xlmroberta", "bart", "mbart", "camembert", "longformer", "led"),
        Family(roles=_ROBERTA, spaced_mask=True),
    ),
    **dict.fromkeys(("t5", "mt5", "umt5"), Family(roles=_T5)),
    "pegasus": Family(roles=_PEGASUS),
    "xlnet": Family(roles=_XLNET, padding_side="left", spaced_mask=True),
    "gpt2": Family(roles=_GPT2),
    "gptneox": Family(roles=_GPT2),
    "clip": Family(roles=_CLIP),
    **dict.fromkeys(("llama", "codellama", "mistral", "mixtral", "phi3"), Family(roles=_LLAMA, padding_side="left")),
    **dict.fromkeys(("qwen", "qwen2", "qwen2moe", "qwen3", "qwen3moe"), Family(roles=_QWEN2)),
    **dict.fromkeys(("gemma", "gemma2", "gemma3", "gemma3text"), Family(roles=_GEMMA, padding_side="left")),
}
UNKNOWN = Family()


def stem(name: str | None) -> str:
    """The family name in a class name or model type: "BertTokenizerFast" and "bert" → "bert"."""
    text = (name or "").removesuffix("Fast").removesuffix("Tokenizer")
    return text.replace("-", "").replace("_", "").lower()


def name_of(tokenizer_class: str | None, model_type: str | None) -> str:
    """The name of the family that a class, else a model type, stands for; "" when it is not known."""
    name = stem(tokenizer_class if tokenizer_class else model_type)
    return name if name in FAMILIES else ""


def family(tokenizer_class: str | None, model_type: str | None) -> Family:
    """The row of that family, or one without defaults."""
    return FAMILIES.get(name_of(tokenizer_class, model_type), UNKNOWN)
