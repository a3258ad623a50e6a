"""Older tokenizer files, complete: from vocab.txt, vocab.json + merges.txt, sentencepiece and tiktoken to one engine.

| files | kind | classes that add something of their own |
|---|---|---|
| vocab.json, merges.txt | byte-level BPE | RoBERTa and BART, Qwen2 |
| spiece.model, tokenizer.model, sentencepiece.bpe.model | sentencepiece | T5, XLM-R, ALBERT, Llama, Gemma |
| vocab.txt | WordPiece | BERT and its kin |
| *.tiktoken, or tokenizer.model with lines of base64 | tiktoken | Qwen (the first), Llama 3 |
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Crate

from plait import console
from plait.disk import left_behind
from plait.errors import NotFoundError, TokenizerError
from plait.text import merges, sentencepiece
from plait.text.letters import letters_of_bytes, spelled
from plait.text.load import read_json
from plait.text.sentencepiece import CONTROL, NORMAL, Model, Piece
from plait.text.special import content
from plait.text.splits import LLAMA3, SPLITS, by_regex, gpt2

_log = console.logger("text")

SENTENCEPIECE = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "sentencepiece.model", "spm.model")
Config = Mapping[str, Any]


def convert(folder: Path, config: Config, stem: str) -> Crate:
    """The engine of a folder without tokenizer.json; `stem` is the family's name (see `families`).

    Raises `NotFoundError` that lists the folder when it holds no tokenizer, `TokenizerError` for files that cannot be
    read.
    """
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return byte_level(folder, config, stem)
    for path in [folder / name for name in SENTENCEPIECE] + sorted(folder.glob("*.tiktoken")):
        if told := left_behind(path):
            raise TokenizerError(f"{path} {told}")
        if path.is_file():
            return tiktoken(path, stem) if _is_tiktoken(path) else from_sentencepiece(path, config, stem)
    if (folder / "vocab.txt").is_file():
        return from_vocabulary(folder / "vocab.txt", config)
    there = ", ".join(sorted(item.name for item in folder.iterdir())) if folder.is_dir() else "no such folder"
    raise NotFoundError(
        f"There is no tokenizer in {folder}: no tokenizer.json, vocab.txt, vocab.json with merges.txt, "
        f"{', '.join(SENTENCEPIECE)} or *.tiktoken. There is: {there or 'nothing'}."
    )


# ---- WordPiece -----------------------------------------------------------------------------------------------------


def from_vocabulary(path: Path, config: Config) -> Crate:
    """A BERT vocabulary, one token per line, with BERT's settings from the configuration."""
    lines = path.read_text(encoding="utf-8").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    vocabulary = {line.rstrip("\r"): index for index, line in enumerate(lines)}
    if len(vocabulary) != len(lines):
        raise TokenizerError(f"{path} holds a token twice: {len(lines)} lines are {len(vocabulary)} tokens.")
    return wordpiece(
        vocabulary,
        roles=config,
        lower=config.get("do_lower_case", True),
        chinese=config.get("tokenize_chinese_chars", True),
        accents=config.get("strip_accents"),
    )


def wordpiece(
    vocabulary: Mapping[str, int],
    *,
    roles: Mapping[str, Any],
    lower: bool = True,
    chinese: bool = True,
    accents: bool | None = None,
) -> Crate:
    """BERT's engine. `accents`: whether accents are stripped, None for as `lower` says."""
    unknown, first, last = (
        content(roles.get(role)) or default
        for role, default in (("unk_token", "[UNK]"), ("cls_token", "[CLS]"), ("sep_token", "[SEP]"))
    )
    missing = [token for token in (unknown, first, last) if token not in vocabulary]
    if missing:
        raise TokenizerError(f"The vocabulary lacks {', '.join(missing)}; a BERT tokenizer cannot do without.")
    crate = Crate(models.WordPiece(vocab=dict(vocabulary), unk_token=unknown, max_input_chars_per_word=100))
    crate.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=chinese, strip_accents=accents, lowercase=lower
    )
    crate.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    crate.decoder = decoders.WordPiece(prefix="##")
    crate.post_processor = processors.TemplateProcessing(
        single=[first, "$A", last],
        pair=[first, "$A", last, "$B:1", f"{last}:1"],
        special_tokens=[(token, vocabulary[token]) for token in (first, last)],
    )
    return crate


# ---- byte-level BPE ------------------------------------------------------------------------------------------------


def byte_level(folder: Path, config: Config, stem: str) -> Crate:
    """vocab.json and merges.txt."""
    vocabulary = read_json(folder / "vocab.json")
    absent = [letter for letter in letters_of_bytes() if letter not in vocabulary]
    if absent:
        raise TokenizerError(
            f"{folder / 'vocab.json'} is not a byte-level vocabulary: it lacks the letters {''.join(absent[:20])}… of "
            "single bytes. Other kinds of BPE (CLIP, CTRL, OpenAI GPT) need their tokenizer.json."
        )
    pairs = []
    for number, line in enumerate((folder / "merges.txt").read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip() or (number == 1 and line.startswith("#version")):
            continue
        left, gap, right = line.rstrip("\r").partition(" ")
        if not gap or left + right not in vocabulary:
            raise TokenizerError(
                f"Line {number} of {folder / 'merges.txt'} is {line!r}; a merge is two tokens with a space "
                "between, whose union is in vocab.json."
            )
        pairs.append((left, right))
    crate = Crate(models.BPE(vocab=vocabulary, merges=pairs))
    crate.decoder = decoders.ByteLevel()
    if stem.startswith("qwen"):
        crate.normalizer, crate.pre_tokenizer = normalizers.NFC(), SPLITS["qwen2"].make()
    else:
        crate.pre_tokenizer = gpt2(prefix=bool(config.get("add_prefix_space", False)))
    if stem in _ROBERTA:
        crate.post_processor = processors.RobertaProcessing(
            ("</s>", vocabulary["</s>"]),
            ("<s>", vocabulary["<s>"]),
            trim_offsets=True,
            add_prefix_space=bool(config.get("add_prefix_space", False)),
        )
    else:
        crate.post_processor = processors.ByteLevel(trim_offsets=False)
    if stem not in {*_ROBERTA, "gpt2"} and not stem.startswith("qwen"):
        _log.warning("The class %r of %s is not known; its texts are split by the rule of GPT-2.", stem, folder)
    return crate


_ROBERTA = {"roberta", "bart", "longformer", "led", "mvp"}


# ---- sentencepiece -------------------------------------------------------------------------------------------------


def from_sentencepiece(path: Path, config: Config, stem: str) -> Crate:
    """A sentencepiece model, with what its class adds."""
    return _SENTENCEPIECE.get(stem, _plain)(sentencepiece.read(path), config)


def _plain(model: Model, config: Config) -> Crate:
    """Just the model, bos and eos as asked."""
    crate = sentencepiece.crate(model)
    return _ended(crate, model, begin=config.get("add_bos_token", False), end=config.get("add_eos_token", False))


def _llama(model: Model, config: Config) -> Crate:
    """Llama and Gemma: <s> first. `legacy: false` gives no dummy prefix to what follows a special token."""
    prefix = "first" if config.get("legacy") is False else "always"
    crate = sentencepiece.crate(model, prefix=prefix)
    return _ended(crate, model, begin=config.get("add_bos_token", True), end=config.get("add_eos_token", False))


def _t5(model: Model, config: Config) -> Crate:
    """T5: </s> last, and <extra_id_99> … <extra_id_0> behind the vocabulary."""
    extra = [f"<extra_id_{number}>" for number in reversed(range(config.get("extra_ids", 100)))]
    known = {piece.text for piece in model.pieces}
    extra = [token for token in extra if token not in known]
    pieces = [*model.pieces, *(Piece(token, 0.0, CONTROL) for token in extra)]
    return _ended(sentencepiece.crate(replace(model, pieces=pieces)), model, begin=False, end=True)


def _xlm_roberta(model: Model, config: Config) -> Crate:
    """XLM-R: the ids of fairseq, which begin <s> <pad> </s> <unk> and end with <mask>; <s> A </s></s> B </s>."""
    first = [Piece(token, 0.0, CONTROL) for token in ("<s>", "<pad>", "</s>")]
    pieces = [*first, Piece("<unk>", 0.0, sentencepiece.UNKNOWN), *model.pieces[3:]]
    crate = sentencepiece.crate(replace(model, pieces=[*pieces, Piece("<mask>", 0.0, NORMAL)], unknown=3))
    crate.post_processor = processors.TemplateProcessing(
        single=["<s>", "$A", "</s>"],
        pair=["<s>", "$A", "</s>", "</s>", "$B", "</s>"],
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return crate


def _albert(model: Model, config: Config) -> Crate:
    """ALBERT: quotes, accents and case are levelled first; [CLS] A [SEP] B [SEP]."""
    front: list[Any] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not config.get("keep_accents", False):
        front += [normalizers.NFKD(), normalizers.StripAccents()]
    if config.get("do_lower_case", True):
        front.append(normalizers.Lowercase())
    crate = sentencepiece.crate(model, front=front)
    ends = [(token, crate.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    crate.post_processor = processors.TemplateProcessing(
        single=["[CLS]", "$A", "[SEP]"], pair=["[CLS]", "$A", "[SEP]", "$B:1", "[SEP]:1"], special_tokens=ends
    )
    return crate


def _ended(crate: Crate, model: Model, *, begin: bool, end: bool) -> Crate:
    """Put the model's bos before and its eos behind each text, as asked."""
    before = [token] if begin and (token := model.token(model.begin)) else []
    after = [token] if end and (token := model.token(model.end)) else []
    crate.post_processor = processors.TemplateProcessing(
        single=[*before, "$A", *after],
        pair=[*before, "$A", *after, *(f"{token}:1" for token in before), "$B:1", *(f"{token}:1" for token in after)],
        special_tokens=[(token, crate.token_to_id(token)) for token in {*before, *after}],
    )
    return crate


_SENTENCEPIECE: dict[str, Callable[[Model, Config], Crate]] = {
    **dict.fromkeys(("t5", "mt5", "umt5"), _t5),
    "xlmroberta": _xlm_roberta,
    "albert": _albert,
    **dict.fromkeys(("llama", "codellama", "mistral", "mixtral", "gemma", "gemma2", "gemma3", "gemma3text"), _llama),
}


# ---- tiktoken ------------------------------------------------------------------------------------------------------


def _is_tiktoken(path: Path) -> bool:
    """Whether a file begins with a line of base64 and a rank."""
    with path.open("rb") as file:
        words = file.readline(200).split()
    try:
        return len(words) == 2 and words[1].isdigit() and bool(base64.b64decode(words[0], validate=True))
    except binascii.Error:
        return False


def tiktoken(path: Path, stem: str) -> Crate:
    """A file of lines "base64 rank": bytes are merged in the order of ranks, and a word that is a token stays whole."""
    ranks: dict[str, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            token, rank = line.split()
            ranks[spelled(base64.b64decode(token, validate=True))] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise TokenizerError(
                f"Line {number} of {path} is {line[:60]!r}; a tiktoken file holds base64 and a rank on each line."
            ) from error
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise TokenizerError(f"The ranks of {path} are not 0 to {len(ranks) - 1}; the file is cut short or edited.")
    crate = Crate(models.BPE(vocab=ranks, merges=merges.derive(ranks), ignore_merges=True))
    qwen = path.suffix == ".tiktoken" or stem.startswith("qwen")
    if qwen:
        crate.normalizer = normalizers.NFC()
    crate.pre_tokenizer = SPLITS["qwen2"].make() if qwen else by_regex(LLAMA3)()
    crate.decoder = decoders.ByteLevel()
    special = _qwen_tokens() if qwen else _llama3_tokens()
    crate.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    if not qwen:
        crate.post_processor = processors.TemplateProcessing(
            single=[special[0], "$A"],
            pair=[special[0], "$A", f"{special[0]}:1", "$B:1"],
            special_tokens=[(special[0], crate.token_to_id(special[0]))],
        )
    return crate


def _qwen_tokens() -> Sequence[str]:
    """The special tokens of the first Qwen, in the order of ids."""
    return ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{number}|>" for number in range(205))]


def _llama3_tokens() -> Sequence[str]:
    """The special tokens of Llama 3, in the order of ids. Later releases gave names to some of the reserved ones."""

    def reserved(first: int, stop: int) -> list[str]:
        return [f"<|reserved_special_token_{number}|>" for number in range(first, stop)]

    return [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        *reserved(0, 4),
        "<|start_header_id|>",
        "<|end_header_id|>",
        *reserved(4, 5),
        "<|eot_id|>",
        *reserved(5, 251),
    ]
