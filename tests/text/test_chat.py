"""Chat templates: the text that each construct gives, what comes back, and hostile templates."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Literal

import pytest

from plait.errors import OptionError, TemplateError, TokenizerError
from plait.text import BatchEncoding, Tokenizer
from plait.text.tools import schema

TALK = [{"role": "user", "content": "Hi 你好"}, {"role": "assistant", "content": "Yes"}]
MARKED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}\n{% else %}{{ m.content }}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def text_of(chat: Tokenizer, template: str, messages: Any = TALK, **named: Any) -> str:
    made = chat.apply_chat_template(messages, chat_template=template, tokenize=False, **named)
    assert isinstance(made, str)
    return made


def test_the_models_own_template(chat: Tokenizer, their_chat: Any) -> None:
    text = chat.apply_chat_template(TALK[:1], tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi 你好<|im_end|>\n<|im_start|>assistant\n"
    )
    assert text == their_chat.apply_chat_template(TALK[:1], tokenize=False, add_generation_prompt=True)


def test_one_call_one_type(chat: Tokenizer) -> None:
    text = chat.apply_chat_template(TALK, tokenize=False)
    ids = chat.apply_chat_template(TALK)
    assert ids == chat.encode(text)
    assert all(isinstance(index, int) for index in ids)
    tensor = chat.apply_chat_template(TALK, return_tensors="pt")
    assert tensor.tolist() == [ids]
    batch = chat.apply_chat_template(TALK, return_dict=True)
    assert isinstance(batch, BatchEncoding)
    assert batch == {"input_ids": ids, "attention_mask": [1] * len(ids)}
    two = chat.apply_chat_template([TALK, TALK[:1]], padding=True, return_dict=True, return_tensors="np")
    assert two["input_ids"].shape == (2, len(ids))
    assert chat.apply_chat_template([TALK], tokenize=False) == [text]
    assert len(chat.apply_chat_template(TALK, truncation=True, max_length=5)) == 5


@pytest.mark.parametrize(
    ("template", "named", "expected"),
    [
        ("{%- for m in messages -%}\n  [{{ m['role'] }}]\n{%- endfor %}", {}, "[user][assistant]"),
        ("{% for m in messages %}\n{{ m.role }}\n{% endfor %}", {}, "user\nassistant\n"),
        ("    {% if true %}x{% endif %}", {}, "x"),
        ("{{ bos_token }}{{ eos_token }}", {}, "<|im_start|><|im_end|>"),
        ("{{ enable_thinking is defined and enable_thinking is false }}", {"enable_thinking": False}, "True"),
        ("{{ tools | tojson }}", {"tools": [{"a": "<b>'é"}]}, '[{"a": "<b>\'é"}]'),
        ("{{ {'a': [1]} | tojson(indent=2) }}", {}, '{\n  "a": [\n    1\n  ]\n}'),
        ("{{ documents[0].title }}", {"documents": [{"title": "T", "text": "x"}]}, "T"),
        ("{% for m in messages %}{{ loop.index0 }}{{ loop.last }}{% break %}{% endfor %}", {}, "0False"),
        (
            "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{% endfor %}",
            {},
            "assistant",
        ),
        (
            "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
            {},
            "2",
        ),
        ("{{ messages[::-1][0]['content'] ~ '!' ~ 1 }}", {}, "Yes!1"),
        ("{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f(messages[0].role) }}", {}, "<user>"),
        ("{{ messages[0].content.split(' ')[-1].strip('好') }}", {}, "你"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", {}, "1"),
        ("{{ messages | map(attribute='role') | join(', ') }}", {}, "user, assistant"),
        ("{{ strftime_now('%Y')[:2] }}", {}, "20"),
        ("{% if messages[0].content is string and messages is iterable %}s{% endif %}", {}, "s"),
        ("{{ '%s=%5d' % ('a', 3) }}{{ '{:>3}'.format(1) }}", {}, "a=    3  1"),
        ("{{ (messages | length) * '=' }}", {}, "=="),
        ("{% generation %}a{% endgeneration %}b", {}, "ab"),
        ("{{ messages[1].reasoning_content }}|{{ messages[1].thinking }}", {}, "|"),
    ],
)
def test_constructs(chat: Tokenizer, template: str, named: dict[str, Any], expected: str) -> None:
    assert text_of(chat, template, **named) == expected


def test_fields_that_are_none_are_left_out(chat: Tokenizer) -> None:
    messages = [{"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}]
    assert text_of(chat, "{{ 'content' in messages[0] }}{{ messages[0].tool_calls[0].name }}", messages) == "Falsef"


def test_thinking_is_read_under_every_name(chat: Tokenizer) -> None:
    for name in ("reasoning_content", "thinking", "reasoning"):
        messages = [{"role": "assistant", "content": "a", name: "hm"}]
        assert text_of(chat, "{{ messages[0].reasoning_content }}{{ messages[0].thinking }}", messages) == "hmhm"


def test_objects_are_out_of_reach(chat: Tokenizer) -> None:
    class Picture:
        def save(self) -> str:
            raise AssertionError("a template called a method")

    messages = [{"role": "user", "content": [{"type": "image", "image": Picture()}]}]
    assert text_of(chat, "{{ messages[0].content[0].image }}", messages) == "<Picture>"
    with pytest.raises(TemplateError, match="'str object' has no attribute 'save'"):
        text_of(chat, "{{ messages[0].content[0].image.save() }}", messages)


def test_continue_final_message(chat: Tokenizer, their_chat: Any) -> None:
    talk = [TALK[0], {"role": "assistant", "content": "It is "}]
    for template in (None, MARKED, "{% for m in messages %}[{{ m.content | trim }}]{% endfor %}"):
        ours, theirs = (
            tokenizer.apply_chat_template(talk, chat_template=template, tokenize=False, continue_final_message=True)
            for tokenizer in (chat, their_chat)
        )
        assert ours == theirs
    blocks = [{"role": "assistant", "content": [{"type": "text", "text": "Well"}]}]
    assert text_of(chat, "{{ messages[0].content[0].text }}<end>", blocks, continue_final_message=True) == "Well"
    thought = [{"role": "assistant", "content": "x", "thinking": "hm"}]
    template = "<think>{{ messages[0].reasoning_content }}</think>{{ messages[0].content }}"
    assert text_of(chat, template, thought, continue_final_message="thinking") == "<think>hm"
    assert talk[1]["content"] == "It is "


def test_assistant_mask(chat: Tokenizer) -> None:
    batch = chat.apply_chat_template(
        TALK * 2, chat_template=MARKED, return_dict=True, return_assistant_tokens_mask=True
    )
    ids, mask = batch["input_ids"], batch["assistant_masks"]
    assert chat.decode([index for index, said in zip(ids, mask, strict=True) if said]) == "Yes<|im_end|>" * 2
    padded = chat.apply_chat_template(
        [TALK, TALK * 2],
        chat_template=MARKED,
        return_dict=True,
        return_assistant_tokens_mask=True,
        padding=True,
        return_tensors="pt",
    )
    assert padded["assistant_masks"].shape == padded["input_ids"].shape
    assert padded["assistant_masks"].sum(1).tolist() == [2, 4]
    emoji = [{"role": "assistant", "content": "👩‍🚀"}]
    template = "a{% generation %}{{ messages[0].content }}{% endgeneration %}b"
    batch = chat.apply_chat_template(emoji, chat_template=template, return_dict=True, return_assistant_tokens_mask=True)
    assert batch["assistant_masks"] == [0, *[1] * (len(batch["input_ids"]) - 2), 0]


def test_named_templates(chat: Tokenizer) -> None:
    own = Tokenizer(chat.engine, chat_template={"default": "d", "tool_use": "t", "x": "{{ 1 }}"}, name_or_path="m")
    assert own.apply_chat_template(TALK, tokenize=False) == "d"
    assert own.apply_chat_template(TALK, tools=[{"name": "f"}], tokenize=False) == "t"
    assert own.apply_chat_template(TALK, chat_template="x", tokenize=False) == "1"
    assert own.apply_chat_template(TALK, chat_template="{{ 2 }}", tokenize=False) == "2"
    assert own.get_chat_template() == "d"
    assert own.get_chat_template(tools=[{"name": "f"}]) == "t"
    assert own.get_chat_template("x") == "{{ 1 }}"
    with pytest.raises(TemplateError, match=r"no chat template 'defualt' of m.*Did you mean 'default'\?"):
        own.apply_chat_template(TALK, chat_template="defualt")
    own.chat_template = {"a": "1", "b": "2"}
    with pytest.raises(TemplateError, match="has the chat templates a, b and none is the default"):
        own.apply_chat_template(TALK)


HOSTILE = [
    ("{{ raise_exception('only system messages') }}", r"refuses this conversation at line 1: only system messages"),
    ("a\nb\n{{ messages[0].x.y }}", r"fails at line 3: 'dict object' has no attribute 'x'.*have the fields"),
    ("\n{% if %}", r"is not a valid template at line 2"),
    ("{% for i in range(10**9) %}{% endfor %}", r"fails at line 1: Range too big"),
    ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", r"does not end in good time"),
    (
        "{% set r = range(99999) | list %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}",
        r"stopped at line 1: it does not end in good time",
    ),
    ("{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}", r"nests or calls itself without end"),
    (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        r"does not end in good time",
    ),
    ("{{ 'a' * 10**9 }}", r"makes a value of 1,000,000,000 characters"),
    ("{{ [1] * 10**9 }}", r"makes a value of 1,000,000,000 characters or items"),
    ("{{ 10 ** (10 ** 7) }}", r"computes a number of more than 4,096 bits"),
    ("{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}", r"makes a value"),
    ("{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}", r"makes a value"),
    ("{% set n = namespace(x=9) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}", r"4,096 bits"),
    ("{{ 'x'.ljust(10**10) }}", r"makes a value of 10,000,000,000"),
    ("{{ 'x' | center(10**10) }}", r"makes a value of 10,000,000,000"),
    ("{{ '%999999999d' % 1 }}", r"formats with the width"),
    ("{{ '%999999999d' | format(1) }}", r"formats with the width"),
    ("{{ '%*d' | format(999999999, 1) }}", r"formats with the width"),
    ("{{ '{:999999999}'.format(1) }}", r"formats with the width"),
    ("{{ '{:{}}'.format(1, 999999999) }}", r"formats with the width"),
    ("{{ ('a' * 9999).replace('', 'b' * 9999) }}", r"makes a value"),
    ("{{ ('a' * 9999) | replace('a', 'b' * 9999) }}", r"makes a value"),
    ("{{ ('b' * 9999).join(range(9999) | map('string') | list) }}", r"makes a value"),
    ("{{ ([range(9999) | list] * 9999) | map('join') | list }}", r"does not end in good time"),
    ("{% set r = range(99999) | list %}{{ r | select('in', r) | list | length }}", r"does not end in good time"),
    ("{% for i in range(99999) %}{{ 'a' * 999 }}{% endfor %}", r"makes a value of|too many steps"),
    ("{{ {}.__class__.__mro__ }}", r"reaches outside its sandbox: access to attribute '__class__'"),
    ("{{ cycler.__init__.__globals__ }}", r"reaches outside its sandbox"),
    ("{{ messages.append(1) }}", r"reaches outside its sandbox"),
    ("{{ messages | map(attribute='__class__.__base__') | list }}", r"no attribute|outside its sandbox"),
    ("{{ '{0.__class__.__base__}'.format(messages) }}", r"outside its sandbox|access to attribute"),
    ("{% include '/etc/passwd' %}", r"fails at line 1: no loader"),
    ("{% set __meter__ = 1 %}{% for i in range(3) %}{% endfor %}", r"sets __meter__, which is not its own"),
]


@pytest.mark.parametrize(("template", "message"), HOSTILE, ids=[row[0][:40] for row in HOSTILE])
def test_hostile_templates(chat: Tokenizer, template: str, message: str) -> None:
    """Each is refused by a bound that counts, so refusal does not depend on the speed of the machine."""
    with pytest.raises(TemplateError, match=message):
        text_of(chat, template)


def test_attributes_out_of_reach_are_undefined(chat: Tokenizer) -> None:
    assert text_of(chat, "[{{ messages | attr('__class__') | attr('__base__') }}{{ ''.__class__ }}]") == "[]"


def test_harmless_numbers_are_let_through(chat: Tokenizer) -> None:
    assert (
        text_of(chat, "{{ namespace(at=1700000000).at }}{{ 'order 1234567 %s' % 'x' }}") == "1700000000order 1234567 x"
    )


def test_messages_cannot_forge_marks(chat: Tokenizer) -> None:
    forged = [{"role": "user", "content": "a\ufdd0b\ufdd1c\ufdd2"}]
    assert text_of(chat, "{{ messages[0].content }}", forged) == "abc"


def test_conversations_that_are_none(chat: Tokenizer, bert: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"A conversation is a list of messages such as \{'role'.*found 'Hi'"):
        chat.apply_chat_template("Hi")
    with pytest.raises(TokenizerError, match=r"A conversation is a list of messages"):
        chat.apply_chat_template([])
    with pytest.raises(TokenizerError, match=r"^A conversation has no messages; it needs one at least.$"):
        chat.apply_chat_template([TALK, []])
    with pytest.raises(TokenizerError, match=r"Message 1 is 'x'; a message is a dict with a 'role'"):
        chat.apply_chat_template([TALK[0], "x"])
    with pytest.raises(TemplateError, match=r"has no chat template, so it does not know how its model reads"):
        bert.apply_chat_template(TALK)
    with pytest.raises(OptionError, match=r"continue_final_message and add_generation_prompt exclude each other"):
        chat.apply_chat_template(TALK, continue_final_message=True, add_generation_prompt=True)
    with pytest.raises(OptionError, match=r"needs tokenize=True and return_dict=True"):
        chat.apply_chat_template(TALK, return_assistant_tokens_mask=True)
    with pytest.raises(TemplateError, match=r"has no \{% generation %\} block"):
        chat.apply_chat_template(TALK, return_assistant_tokens_mask=True, return_dict=True)
    with pytest.raises(TemplateError, match=r"does not write the 'note' of the last message"):
        chat.apply_chat_template([{"role": "user", "note": "a"}], continue_final_message="note", chat_template="x")
    with pytest.raises(TokenizerError, match=r"needs a text to go on with, but the 'content' of.*is None"):
        chat.apply_chat_template([{"role": "user"}], continue_final_message=True)
    with pytest.raises(TokenizerError, match=r"A tool is a function or a dict with its JSON schema, but found 3"):
        chat.apply_chat_template(TALK, tools=[3])


def weather(city: str, days: int = 1, unit: Literal["C", "F"] = "C", tags: list[str] | None = None) -> dict[str, float]:
    """Tell the weather of a city.

    Args:
        city: The city, with its country
            where the name alone is not enough
        days: How many days ahead (choices: [1, 3, 7])
        unit: Degrees
        tags: What to look at

    Returns:
        Values by name
    """
    raise NotImplementedError


def test_functions_as_tools(chat: Tokenizer) -> None:
    from transformers.utils import get_json_schema

    ours, theirs = schema(weather), get_json_schema(weather)
    assert ours["function"]["parameters"]["properties"]["tags"] == {
        "type": "array",
        "items": {"type": "string"},
        "nullable": True,
        "description": "What to look at",
    }
    assert ours == theirs
    assert text_of(chat, "{{ tools[0].function.name }}", tools=[weather]) == "weather"


class Color(Enum):
    RED = "red"
    TWO = 2


class Painter:
    def paint(
        self,
        color: Color,
        size: tuple[int, float],
        mode: Literal["a", 1, None],
        either: str | list[int] | tuple[str, str] = "x",
        plain: list | tuple = (),  # type: ignore[type-arg]
        more: dict[str, bool] | dict[str, int] | None = None,
    ) -> bytes:
        """Paint.

        Args:
            color: a
            size: b
            mode: c
            either: d
            plain: e
            more: f
        """
        raise NotImplementedError


def test_every_annotation_that_json_schema_expresses() -> None:
    from transformers.utils import get_json_schema

    ours, theirs = schema(Painter.paint), get_json_schema(Painter().paint)
    assert ours["function"]["parameters"]["properties"]["color"] == {
        "type": ["string", "integer"],
        "enum": ["red", 2],
        "description": "a",
    }
    assert ours == theirs
    assert schema(Painter().paint)["function"]["parameters"] == schema(Painter.paint)["function"]["parameters"]


def test_sequences_of_any_length_are_arrays() -> None:
    def add(x: tuple[int, ...], y: Sequence[str], z: set[bool]) -> complex:
        """Do.

        Args:
            x: a
            y: b
            z: c
        """
        raise NotImplementedError

    function = schema(add)["function"]
    kinds = [function["parameters"]["properties"][name]["items"] for name in "xyz"]
    assert kinds == [{"type": "integer"}, {"type": "string"}, {"type": "boolean"}]
    assert "return" not in function, "what has no schema is not described wrongly"


def test_functions_that_cannot_be_tools() -> None:
    def odd(x: list[complex]) -> None:
        """Do.

        Args:
            x: what
        """

    def silent(x: int) -> None: ...

    def untyped(x) -> None:  # type: ignore[no-untyped-def]
        """Do.

        Args:
            x: what
        """

    def undescribed(x: int) -> None:
        """Do."""

    with pytest.raises(TokenizerError, match=r"'x' of the tool odd\(\) is annotated with complex, which JSON schema"):
        schema(odd)
    with pytest.raises(TokenizerError, match=r"silent\(\) has no docstring"):
        schema(silent)
    with pytest.raises(TokenizerError, match=r"untyped\(\) has no annotation for 'x'"):
        schema(untyped)
    with pytest.raises(TokenizerError, match=r"undescribed\(\) does not describe 'x'.*'Args:': x: …"):
        schema(undescribed)
