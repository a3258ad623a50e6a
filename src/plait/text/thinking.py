"""A reply split into thinking and answer, complete: whole and streamed alike, from the state that the prompt left.

Models that think write <think> … </think> and then their answer. Some templates open the block in the prompt, some
open and close it there to switch thinking off, and a reply may be cut short within it, so what the first token is can
only be read from the prompt:

    …assistant\\n                            answer, until the model writes <think>
    …assistant\\n<think>\\n                   thinking
    …assistant\\n<think>\\n\\n</think>\\n\\n     answer

Where a marker is one token of the vocabulary it is known by its id, and the same letters spelled by other tokens are
text. Where it is not, it is found in the text, however it is cut into tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from plait.text.detokenizer import StreamingDetokenizer

if TYPE_CHECKING:
    from plait.text.tokenizer import Tokenizer

MARKERS = ("<think>", "</think>")


class Reply(NamedTuple):
    """A whole reply. `finished` is False when it ends within its thinking."""

    thinking: str
    answer: str
    finished: bool


class Delta(NamedTuple):
    """What a token adds to each part, often nothing."""

    thinking: str
    answer: str


def thinks(tokenizer: Tokenizer, markers: tuple[str, str] = MARKERS) -> bool:
    """Whether a model marks its thinking: the closing marker is in its vocabulary or in its chat template."""
    template = tokenizer.chat_template
    texts = template.values() if isinstance(template, Mapping) else [template or ""]
    return tokenizer.engine.token_to_id(markers[1]) is not None or any(markers[1] in text for text in texts)


def split(
    tokenizer: Tokenizer, ids: Iterable[int], *, prompt: Sequence[int] = (), markers: tuple[str, str] = MARKERS
) -> Reply:
    """Split the ids of a whole reply. `prompt` holds the ids that the model was given."""
    stream = ThinkingStream(tokenizer, prompt=prompt, markers=markers)
    deltas = [stream.add(index) for index in ids]
    deltas.append(stream.finish())
    return Reply("".join(d.thinking for d in deltas), "".join(d.answer for d in deltas), not stream.thinking)


class ThinkingStream:
    """A reply as it comes, token by token.

        stream = ThinkingStream(tokenizer, prompt=prompt_ids)
        for id in ids: delta = stream.add(id)
        delta = stream.finish()

    The line breaks around thinking, and before the answer behind it, belong to the markers and are left out. Special
    tokens are left out too. A model that does not think has only an answer. `thinking` says which part is running.
    """

    def __init__(self, tokenizer: Tokenizer, *, prompt: Sequence[int] = (), markers: tuple[str, str] = MARKERS) -> None:
        self.thinking = False
        self._thought = _Thought()
        self._answer = _Answer()
        for event in _turn(tokenizer, prompt, markers):
            self._take(event)
        # What the prompt says is not part of the reply; only where it leaves off matters.
        self._finder = _Finder(tokenizer, markers)

    def add(self, token_id: int) -> Delta:
        """The text that one more id settles."""
        return self._merged(self._finder.add(int(token_id)))

    def finish(self) -> Delta:
        """The rest, when no more ids come."""
        return self._merged(self._finder.finish())

    def _merged(self, events: Iterable[str | bool]) -> Delta:
        deltas = [self._take(event) for event in events]
        return Delta("".join(delta.thinking for delta in deltas), "".join(delta.answer for delta in deltas))

    def _take(self, event: str | bool) -> Delta:
        """Text goes to the part that is running, a marker changes the part."""
        if isinstance(event, str):
            return Delta(self._thought.add(event), "") if self.thinking else Delta("", self._answer.add(event))
        self.thinking = event
        (self._thought if event else self._answer).begin()
        return Delta("", "")


class _Thought:
    """Text of thinking: no line breaks at its ends. A second block goes on a line of its own."""

    def __init__(self) -> None:
        self._held = ""
        self._fresh, self._begun = True, False

    def begin(self) -> None:
        self._held, self._fresh = "\n" if self._begun else "", True

    def add(self, text: str) -> str:
        text = text.lstrip("\n") if self._fresh else text
        if not text:
            return ""
        self._fresh, self._begun = False, True
        whole = self._held + text
        settled = whole.rstrip("\n")
        self._held = whole[len(settled) :]
        return settled


class _Answer:
    """Text of the answer: no line breaks at its beginning when thinking came before it."""

    def __init__(self) -> None:
        self._fresh, self._begun = False, False

    def begin(self) -> None:
        self._fresh = not self._begun

    def add(self, text: str) -> str:
        text = text.lstrip("\n") if self._fresh else text
        if text:
            self._fresh, self._begun = False, True
        return text


def _turn(tokenizer: Tokenizer, prompt: Sequence[int], markers: tuple[str, str]) -> list[str | bool]:
    """Text and markers of the turn that a prompt ends with.

    The turn begins behind the last special token, so a marker in somebody's message does not count.
    """
    finder = _Finder(tokenizer, markers)
    ids = [int(index) for index in prompt]
    special = {index for index, token in tokenizer.engine.added_tokens().items() if token.special} - set(finder.ids)
    start = max((place + 1 for place, index in enumerate(ids) if index in special), default=0)
    events = [event for index in ids[start:] for event in finder.add(index)] + finder.finish()
    # Text before the first marker is the turn's own heading ("assistant\n"), not part of an answer.
    first = next((place for place, event in enumerate(events) if not isinstance(event, str)), len(events))
    return events[first:]


class _Finder:
    """Ids to events: text, True for an opening marker, False for a closing one."""

    def __init__(self, tokenizer: Tokenizer, markers: tuple[str, str]) -> None:
        self._tokenizer = tokenizer
        self.ids: dict[int, bool] = {}
        self._texts: dict[str, bool] = {}  # markers without an id of their own, found in the text
        if thinks(tokenizer, markers):
            for marker, opens in zip(markers, (True, False), strict=True):
                index = tokenizer.engine.token_to_id(marker)
                if index is None:
                    self._texts[marker] = opens
                else:
                    self.ids[index] = opens
        self._detokenizer = StreamingDetokenizer(tokenizer)
        self._held = ""

    def add(self, index: int) -> list[str | bool]:
        if index not in self.ids:
            return self._scan(self._detokenizer.add(index))
        events = self.finish()
        self._detokenizer = StreamingDetokenizer(self._tokenizer)
        return [*events, self.ids[index]]

    def finish(self) -> list[str | bool]:
        events = self._scan(self._detokenizer.finish())
        text, self._held = self._held, ""
        return [*events, text] if text else events

    def _scan(self, text: str) -> list[str | bool]:
        """Text cut at the markers in it; an end that may be the beginning of one is held back."""
        self._held += text
        events: list[str | bool] = []
        while found := min(
            ((place, marker) for marker in self._texts if (place := self._held.find(marker)) >= 0), default=None
        ):
            place, marker = found
            events += [self._held[:place]] if place else []
            events.append(self._texts[marker])
            self._held = self._held[place + len(marker) :]
        sizes = (n for marker in self._texts for n in range(1, len(marker)) if self._held.endswith(marker[:n]))
        keep = len(self._held) - max(sizes, default=0)
        events += [self._held[:keep]] if keep else []
        self._held = self._held[keep:]
        return events
