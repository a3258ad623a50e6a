"""Folders in and out: which file wins, what contradictions raise, and what transformers reads back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from plait.errors import NotFoundError, OptionError, TokenizerError
from plait.text import Tokenizer

SAMPLES = ["Hello, how are you?", "tokenization 12345 你好 مرحبا", "[SEP] don't\n\n  x👩‍🚀 <|im_end|>y", ""]


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture
def folder(minilm: Path, tmp_path: Path) -> Path:
    """A copy of MiniLM's tokenizer.json alone."""
    shutil.copy(minilm / "tokenizer.json", tmp_path)
    return tmp_path


def test_tokenizer_json_alone(folder: Path) -> None:
    own = Tokenizer.from_folder(folder)
    assert own("Hello").input_ids == [101, 7592, 102]
    assert own.model_input_names == ["input_ids", "attention_mask"]
    assert (own.pad_token, own.cls_token, own.model_max_length) == ("[PAD]", None, int(1e30))


def test_the_class_name_or_model_type_fills_what_files_leave_out(folder: Path) -> None:
    expected = ("[CLS]", "[SEP]", "[PAD]", ["input_ids", "token_type_ids", "attention_mask"])

    def found(own: Tokenizer) -> tuple[Any, ...]:
        return own.cls_token, own.sep_token, own.pad_token, own.model_input_names

    assert found(Tokenizer.from_folder(folder, model_type="bert")) == expected
    write(folder / "config.json", {"model_type": "bert"})
    assert found(Tokenizer.from_folder(folder)) == expected
    write(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizerFast", "cls_token": "[MASK]"})
    (folder / "config.json").unlink()
    assert found(Tokenizer.from_folder(folder)) == ("[MASK]", *expected[1:])


def test_settings_and_overrides(folder: Path) -> None:
    config = {
        "model_max_length": 7,
        "padding_side": "left",
        "truncation_side": "left",
        "model_input_names": ["input_ids"],
    }
    write(folder / "tokenizer_config.json", config)
    own = Tokenizer.from_folder(folder)
    assert own("a b c d e f g h", truncation=True) == {"input_ids": [101, 1040, 1041, 1042, 1043, 1044, 102]}
    assert own(["a", "a b"], padding=True)["input_ids"][0] == [0, 101, 1037, 102]
    other = Tokenizer.from_folder(folder, padding_side="right", eos_token="[SEP]", model_max_length=3)
    assert (other.padding_side, other.eos_token_id, other.model_max_length) == ("right", 102, 3)
    with pytest.raises(OptionError, match=r"no setting 'pading_side'.*Did you mean 'padding_side'\?"):
        Tokenizer.from_folder(folder, pading_side="left")


@pytest.mark.parametrize(
    "named",
    [{"do_lower_case": False}, {"strip_accents": False}, {"tokenize_chinese_chars": False, "do_lower_case": True}],
)
@pytest.mark.parametrize("file", ["tokenizer.json", "vocab.txt"])
def test_case_accents_and_chinese_letters(file: str, named: dict[str, Any], minilm: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    texts = ["Hello ÉMILE 你好吗 Ünïcode", "a你 HELLO", "[SEP] É"]
    shutil.copy(minilm / file, tmp_path)
    write(tmp_path / "config.json", {"model_type": "bert"})
    expected = AutoTokenizer.from_pretrained(str(tmp_path), **named)(texts)["input_ids"]
    asked = Tokenizer.from_folder(tmp_path, **named)
    assert asked(texts)["input_ids"] == expected
    assert Tokenizer.from_folder(tmp_path, fast=False, **named)(texts)["input_ids"] == expected
    write(tmp_path / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", **named})
    stated = Tokenizer.from_folder(tmp_path)
    assert stated(texts)["input_ids"] == expected
    asked.save_pretrained(tmp_path / "saved")
    assert Tokenizer.from_folder(tmp_path / "saved")(texts)["input_ids"] == expected


def test_case_where_there_is_no_choice(chat: Tokenizer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    chat.save_pretrained(tmp_path)
    again = Tokenizer.from_folder(tmp_path, do_lower_case=True)
    assert again("Hello")["input_ids"] == chat("Hello")["input_ids"]
    assert "do_lower_case has no effect: this BPE tokenizer has a rule of its own." in caplog.text


def test_older_names_and_what_has_no_effect(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(folder / "tokenizer_config.json", {"max_len": 9})
    own = Tokenizer.from_folder(folder, legacy=False, verbose=False)
    assert own.model_max_length == 9
    assert "legacy has no effect" in caplog.text
    assert "verbose has no effect" in caplog.text
    assert Tokenizer.from_folder(folder, max_len=7).model_max_length == 7


def test_tokens_around_a_text_can_be_asked_for(folder: Path) -> None:
    own = Tokenizer.from_folder(folder, bos_token="[MASK]", add_bos_token=True)
    assert own("a", "b") == {"input_ids": [103, 1037, 103, 1038], "attention_mask": [1] * 4}
    with pytest.raises(TokenizerError, match=r"add_eos_token=True needs a eos_token, but it is None"):
        Tokenizer.from_folder(folder, add_eos_token=True)


def test_added_tokens_of_the_config(folder: Path) -> None:
    stated = {"30522": {"content": "<new>", "special": True, "normalized": False}}
    write(folder / "tokenizer_config.json", {"added_tokens_decoder": stated, "additional_special_tokens": ["<new>"]})
    own = Tokenizer.from_folder(folder)
    assert own.encode("<new>", add_special_tokens=False) == [30522]
    assert own.decode([30522, 7592], skip_special_tokens=True) == "hello"
    assert own.additional_special_tokens_ids == [30522]
    stated["40000"] = {"content": "<far>", "special": False}
    write(folder / "tokenizer_config.json", {"added_tokens_decoder": stated})
    with pytest.raises(TokenizerError, match=r"'<far>' is stated with id 40000, but the vocabulary gives it 30523"):
        Tokenizer.from_folder(folder)


def test_older_files(folder: Path) -> None:
    write(folder / "tokenizer_config.json", {"pad_token": "[UNK]"})
    write(folder / "special_tokens_map.json", {"pad_token": {"content": "[PAD]", "lstrip": False}, "eos_token": "<e>"})
    write(folder / "added_tokens.json", {"<e>": 30522, "<f>": 30523})
    own = Tokenizer.from_folder(folder)
    assert (own.pad_token, own.eos_token_id) == ("[PAD]", 30522)
    assert own.decode([30522, 30523], skip_special_tokens=True) == "<f>"


def test_a_role_outside_the_vocabulary_joins_it(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = Tokenizer.from_folder(folder, pad_token="<pad>")
    assert own.pad_token_id == 30522
    assert "The special token '<pad>' is not in the vocabulary; it joins it as id 30522." in caplog.text


def test_chat_templates(folder: Path) -> None:
    talk = [{"role": "user", "content": "x"}]
    write(folder / "tokenizer_config.json", {"chat_template": "c"})
    assert Tokenizer.from_folder(folder).apply_chat_template(talk, tokenize=False) == "c"
    listed = [{"name": "default", "template": "d"}, {"name": "rag", "template": "r"}]
    write(folder / "tokenizer_config.json", {"chat_template": listed})
    assert Tokenizer.from_folder(folder).chat_template == {"default": "d", "rag": "r"}
    (folder / "chat_template.jinja").write_text("f")
    assert Tokenizer.from_folder(folder).chat_template == "f"
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates/tool_use.jinja").write_text("t")
    assert Tokenizer.from_folder(folder).chat_template == {"default": "f", "tool_use": "t"}


def test_broken_folders(tmp_path: Path, folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(
        TokenizerError, match=r"tokenizer_config\.json is not valid JSON.*Fetch or write the file again"
    ):
        Tokenizer.from_folder(folder)
    (folder / "tokenizer_config.json").write_text("[]")
    with pytest.raises(TokenizerError, match=r"holds a list, but a JSON object is expected"):
        Tokenizer.from_folder(folder)
    (folder / "tokenizer_config.json").unlink()
    (folder / "tokenizer.json").write_text('{"model": {}}')
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is not a tokenizer that the tokenizers library"):
        Tokenizer.from_folder(folder)
    (folder / "tokenizer.json").unlink()
    (folder / "weights.bin").touch()
    with pytest.raises(NotFoundError, match=r"There is no tokenizer.*There is: weights\.bin"):
        Tokenizer.from_folder(folder)


def test_saved_folders_load_here_and_in_transformers(bert: Tokenizer, chat: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    talk = [{"role": "user", "content": "Hi"}]
    for name, own in (("bert", bert), ("chat", chat)):
        paths = own.save_pretrained(tmp_path / name)
        assert all(Path(path).is_file() for path in paths)
        again = Tokenizer.from_folder(tmp_path / name)
        theirs = AutoTokenizer.from_pretrained(str(tmp_path / name))
        for text in SAMPLES:
            expected = own(text)
            assert again(text) == expected
            assert dict(theirs(text)) == expected
            assert list(theirs(text)) == list(expected)
            assert theirs.decode(expected["input_ids"]) == own.decode(expected["input_ids"])
        for found in (again, theirs):
            for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"):
                assert getattr(found, f"{role}_token") == getattr(own, f"{role}_token")
            assert found.model_max_length == own.model_max_length
            assert found.padding_side == own.padding_side
            assert found.added_tokens_decoder == own.added_tokens_decoder
        assert again.chat_template == own.chat_template
        if own.chat_template:
            assert theirs.apply_chat_template(talk, tokenize=False) == own.apply_chat_template(talk, tokenize=False)


def test_saving_keeps_what_was_added(minilm: Path, tmp_path: Path) -> None:
    own = Tokenizer.from_folder(minilm)
    own.add_tokens(["<a>"])
    own.add_special_tokens({"additional_special_tokens": ["<b>"]})
    own.chat_template = {"default": "d", "x": "y"}
    own.padding_side = "left"
    own.save_pretrained(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    assert again.encode("<a><b>") == own.encode("<a><b>") == [101, 30522, 30523, 102]
    assert again.additional_special_tokens == ["<b>"]
    assert again.chat_template == own.chat_template
    assert again.padding_side == "left"
    assert json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["truncation"] is None
    (tmp_path / "file").touch()
    with pytest.raises(TokenizerError, match="is a file; save_pretrained writes several files"):
        own.save_pretrained(tmp_path / "file")


def test_a_hundred_thousand_added_tokens(folder: Path) -> None:
    """They load in one pass: each is checked against the id stated for it."""
    stated = {str(30522 + place): {"content": f"<t{place}>", "normalized": False} for place in range(100_000)}
    write(folder / "tokenizer_config.json", {"added_tokens_decoder": stated})
    own = Tokenizer.from_folder(folder)
    assert len(own) == 130_522
    assert own.encode("<t99999>", add_special_tokens=False) == [130_521]


def test_training_prints_nothing_where_no_bars_are_drawn(bert: Tokenizer, capfd: pytest.CaptureFixture[str]) -> None:
    assert bert.train_new_from_iterator([["low lower lowest"] * 50], 60).tokenize("lower") == ["lower"]
    assert capfd.readouterr() == ("", "")


def test_training_a_new_vocabulary(bert: Tokenizer, chat: Tokenizer, their_bert: Any, their_chat: Any) -> None:
    texts = [["the quick brown fox", "jumps over the lazy dog"], ["你好世界 the end"]] * 20
    for own, theirs in ((bert, their_bert), (chat, their_chat)):
        ours = own.train_new_from_iterator(iter(texts), 400)
        expected = theirs.train_new_from_iterator(iter(texts), 400)
        # The crate numbers WordPiece tokens in the order of a hash table, so their ids differ from run to run.
        assert ours.get_vocab().keys() == expected.get_vocab().keys()
        text = "the quick end"
        assert ours.tokenize(text) == expected.tokenize(text)
        assert ours.decode(ours.encode(text), skip_special_tokens=True) == text
        assert ours.special_tokens_map == own.special_tokens_map
        assert len(ours) <= 400
    renamed = bert.train_new_from_iterator(
        texts, 300, special_tokens_map={"[CLS]": "<cls>"}, new_special_tokens=["<x>"]
    )
    assert renamed.cls_token == "<cls>"
    assert renamed.convert_ids_to_tokens(renamed("the<x>").input_ids) == ["<cls>", "the", "<x>", "[SEP]"]
