"""Stop strings in streamed text, the stops by themselves, and text streamers."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mock_model import LetterTokenizer, ScriptModel

from plait.errors import GenerationError, OptionError
from plait.generate import StoppingCriteria, TextIteratorStreamer, TextStreamer, generate
from plait.generate.stopping import MaxTimeCriteria, StopStrings
from plait.generate.streamers import BaseStreamer


def cut_by_hand(text: str, stops: list[str]) -> str:
    """The prefix of `text` before the stop string that is complete first (of several, the longest)."""
    for end in range(1, len(text) + 1):
        hits = [stop for stop in stops if text[:end].endswith(stop)]
        if hits:
            return text[: end - max(map(len, hits))]
    return text


@given(
    text=st.text("abc", max_size=14),
    stops=st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3),
    data=st.data(),
)
def test_any_split_of_the_text_gives_the_same_cut(text: str, stops: list[str], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    strings = StopStrings(stops)
    shown = ""
    for piece in pieces:
        shown += strings.add(piece)
        assert cut_by_hand(text, stops).startswith(shown), "nothing is shown that has to be taken back"
    assert shown + strings.finish() == cut_by_hand(text, stops)
    assert (strings.stopped is not None) == any(stop in text for stop in stops)


def test_only_what_may_begin_a_stop_is_held_back() -> None:
    strings = StopStrings("</end>")
    assert [strings.add(piece) for piece in ["hi ", "<", "b> a</e", "n"]] == ["hi ", "", "<b> a", ""]
    assert strings.finish() == "</en"


def test_stop_strings_must_be_texts() -> None:
    with pytest.raises(OptionError, match=r"at least one character, but are \['a', ''\]"):
        StopStrings(["a", ""])


def test_max_time_counts_from_its_timestamp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plait.generate.stopping.time.monotonic", lambda: 10.0)
    tokens = torch.zeros(2, 1)
    assert MaxTimeCriteria(3.0, initial_timestamp=7.5)(tokens, tokens).tolist() == [False, False]
    assert MaxTimeCriteria(3.0, initial_timestamp=7.0)(tokens, tokens).tolist() == [True, True]


def test_base_classes_say_what_to_define() -> None:
    tokens = torch.zeros(1, 1)
    with pytest.raises(NotImplementedError, match=r"StoppingCriteria must define __call__\(tokens, logits\)"):
        StoppingCriteria()(tokens, tokens)
    with pytest.raises(NotImplementedError, match=r"BaseStreamer must define put\(value\)"):
        BaseStreamer().put(tokens)
    with pytest.raises(NotImplementedError, match=r"BaseStreamer must define end\(\)"):
        BaseStreamer().end()


@pytest.mark.parametrize(("skip_prompt", "text"), [(False, "abbcd\n"), (True, "bcd\n")])
def test_text_is_printed_as_it_grows(skip_prompt: bool, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    streamer = TextStreamer(LetterTokenizer(), skip_prompt=skip_prompt)
    for _ in range(2):  # a streamer may be used again
        generate(ScriptModel([[1, 2, 3]]), torch.tensor([[0, 1]]), max_new_tokens=3, streamer=streamer)
        assert capsys.readouterr().out == text


def test_text_is_iterated_over_from_another_thread() -> None:
    streamer = TextIteratorStreamer(LetterTokenizer(), skip_prompt=True, timeout=10)
    options = {"max_new_tokens": 3, "streamer": streamer}
    thread = threading.Thread(target=generate, args=(ScriptModel([[1, 2, 3]]), torch.tensor([[0]])), kwargs=options)
    thread.start()
    assert list(streamer) == ["b", "c", "d", ""]
    thread.join()


def test_the_reading_thread_is_released_when_generation_fails() -> None:
    streamer = TextIteratorStreamer(LetterTokenizer(), timeout=10)

    def fail_late(tokens: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        if tokens.shape[1] == 2:
            raise ZeroDivisionError
        return logits

    options = {"max_new_tokens": 3, "streamer": streamer, "logits_processor": [fail_late]}
    with pytest.raises(ZeroDivisionError):
        generate(ScriptModel([[1, 2, 3]]), torch.tensor([[0]]), **options)
    assert "".join(streamer) == "ab"  # the prompt, and the token before the failure


def test_streamers_follow_one_sequence_and_do_not_wait_for_ever() -> None:
    with pytest.raises(GenerationError, match=r"one sequence, but got the shape \(2, 1\)"):
        TextStreamer(LetterTokenizer()).put(torch.zeros(2, 1).long())
    with pytest.raises(GenerationError, match="No text came from the generating thread for 0.01 seconds"):
        next(TextIteratorStreamer(LetterTokenizer(), timeout=0.01))
