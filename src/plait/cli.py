"""The `plait` command, complete: what can be asked for on the command line, and how an error ends.

Nothing heavy is imported before a command needs it. A `PlaitError` ends a command with one paragraph on standard error
and status 1; PLAIT_DEBUG=1 shows where it came from.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import plait
from plait import console, settings
from plait.errors import OptionError, PlaitError


class _Commands(TyperGroup):
    """A group of commands whose expected errors are told, not traced."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except PlaitError as error:
            if settings.debug():
                raise
            typer.echo(f"plait: {error}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_Commands,
    name="plait",
    help="From a checkpoint and a table to a trained, predicting, talking model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cache = typer.Typer(help="What was fetched or computed and is kept.", no_args_is_help=True)
app.add_typer(cache, name="cache")

Reference = Annotated[
    str, typer.Argument(metavar="MODEL", help="org/name, org/name@revision, pypi:package==version, a folder, or a file")
]
NewTokens = Annotated[int, typer.Option(min=1, help="most tokens of an answer")]
Temperature = Annotated[float, typer.Option(min=0.0, help="0: always the likeliest token")]
Seed = Annotated[int | None, typer.Option(help="of the random choice of tokens")]
_LOOKS = Path("runs/inspect")


def main() -> None:
    """The entry point of the installed command."""
    app()


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"plait {plait.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print what is being done.")] = False,
) -> None:
    """Options of every command."""
    import logging

    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s")


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="where the results go")] = Path("runs/demo"),
    offline: Annotated[bool, typer.Option("--offline", help="Train a small model instead of fetching any.")] = False,
) -> None:
    """Show the main job on real input: fetch, train, predict, classify, talk. Under five minutes on two cores."""
    from plait.demo import run_demo

    raise typer.Exit(run_demo(output, offline=offline))


# Everything behind the script's name is the script's, its --help included.
@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}
)
def run(
    context: typer.Context,
    script: Annotated[Path, typer.Argument(help="a Python file")],
    keep: Annotated[list[str] | None, typer.Option(help="a library to leave as it is, such as datasets")] = None,
) -> None:
    """Run a script that was written for transformers, datasets or modelscope on plait, unchanged."""
    from plait.compat import run_script

    try:
        run_script(script, context.args, keep=keep or ())
    except PlaitError as error:
        lines = [step for step in traceback.extract_tb(error.__traceback__) if step.filename == str(script)]
        if lines:  # the error itself is told without a trace, but its place in the script is not to be guessed
            typer.echo(f"{script}, line {lines[-1].lineno}: {lines[-1].line}", err=True)
        raise
    except Exception as error:
        if settings.debug():
            raise
        _print_trace(error, script)
        raise typer.Exit(1) from error


def _print_trace(error: Exception, script: Path) -> None:
    """What Python prints of an error, from the script's own line on; a script that cannot be read has none."""
    whole = step = error.__traceback__
    while step is not None and step.tb_frame.f_code.co_filename != str(script):
        step = step.tb_next
    kept = step if step is not None or isinstance(error, SyntaxError) else whole
    sys.stderr.write("".join(traceback.format_exception(error.with_traceback(kept))))


@app.command()
def fetch(model: Reference) -> None:
    """Fetch a model into the cache, verified, and print the folder that holds it."""
    from plait.hub import resolve

    snapshot = resolve(model)
    typer.echo(snapshot.file or snapshot.folder)


@app.command()
def inspect(
    model: Reference,
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor.")] = False,
    text: Annotated[str | None, typer.Option(help="a text to look inside the model with")] = None,
    table: Annotated[
        Path | None, typer.Option(help="for a model that reads tables, the CSV file that --text asks about")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="where the pictures and the page of --text go", show_default=str(_LOOKS)),
    ] = None,
) -> None:
    """Show what a checkpoint holds: configuration, tensors, sizes. With --text, what happens inside on that text:
    maps of attention and statistics of the layers, as PNG files and one HTML page."""
    from plait.hub import resolve

    if text is not None and tensors:
        raise OptionError("--tensors lists what a checkpoint holds, and --text looks inside: give one of the two.")
    if text is not None:
        typer.echo(_looked_inside(model, text, table, output or _LOOKS))
        return
    for option, given in (("--table", table), ("--output", output)):
        if given is not None:
            raise OptionError(f'{option} {given} goes with a text to look inside with: add --text "…".')
    from plait.models.auto import AutoConfig
    from plait.weights.checkpoint import open_checkpoint

    snapshot = resolve(model)
    typer.echo(f"{snapshot.label}: {snapshot.origin}, {snapshot.file or snapshot.folder}")
    typer.echo(AutoConfig.from_pretrained(model))
    checkpoint = open_checkpoint(snapshot.file or snapshot.folder, label=snapshot.label)
    entries = list(checkpoint.entries().values())
    rows = [
        (entry.name, "×".join(map(str, entry.shape)) or "1", entry.stored, _count(entry.shape)) for entry in entries
    ]
    if tensors:
        typer.echo(
            console.table("", ["tensor", "shape", "stored as", "numbers"], [(*r[:3], f"{r[3]:,}") for r in rows])
        )
    kinds = ", ".join(sorted({entry.stored for entry in entries}))
    typer.echo(
        f"{checkpoint.format}: {len(rows)} tensors, {sum(r[3] for r in rows) / 1e6:.1f} million numbers ({kinds})"
    )


@app.command()
def generate(
    model: Reference,
    prompt: Annotated[str, typer.Option(help="the text to continue; - reads standard input")],
    max_new_tokens: NewTokens = 128,
    temperature: Temperature = 0.0,
    seed: Seed = None,
) -> None:
    """Continue a text, and print the continuation as it grows."""
    network, tokenizer = _language_model(model)
    text = sys.stdin.read() if prompt == "-" else prompt
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    _print_answer(network, tokenizer, ids, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)


@app.command()
def chat(
    model: Reference,
    system: Annotated[str | None, typer.Option(help="what the model is told before the conversation")] = None,
    max_new_tokens: NewTokens = 512,
    temperature: Temperature = 0.0,
    seed: Seed = None,
) -> None:
    """Talk with a model, line by line; an empty line or the end of the input ends it."""
    network, tokenizer = _language_model(model)
    messages = [{"role": "system", "content": system}] if system else []
    for line in _lines():
        messages.append({"role": "user", "content": line})
        ids = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        answer = _print_answer(
            network, tokenizer, ids, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
        )
        messages.append({"role": "assistant", "content": answer})


@app.command()
def serve(
    model: Reference,
    host: Annotated[
        str, typer.Option(help="address to listen on; one that others can reach needs a key")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    api_key: Annotated[str | None, typer.Option(envvar="PLAIT_API_KEY", help="demanded of every request")] = None,
    name: Annotated[str | None, typer.Option(help="what clients call the model")] = None,
    prepack: Annotated[
        bool, typer.Option("--prepack", help="Copy the weights to where a CPU reads them soonest: answers come sooner.")
    ] = False,
) -> None:
    """Answer OpenAI-compatible requests at http://HOST:PORT/v1."""
    from plait.serve import serve as serve_model

    typer.echo(f"loading {model}, to be served at http://{host}:{port}/v1 (Ctrl-C ends)", err=True)
    serve_model(model, host=host, port=port, api_key=api_key, name=name, prepack=prepack)


@cache.command("where")
def cache_where() -> None:
    """Print the folder of the cache."""
    typer.echo(settings.home())


@cache.command("ls")
def cache_ls() -> None:
    """List what the cache holds, with sizes: what was fetched, and results of map, filter and reading files."""
    from plait.data.inventory import results

    rows = [(name, version, f"{_size(folder) / 1e6:.1f}") for name, version, folder in _cached(settings.home())]
    if rows:
        typer.echo(console.table("", ["model", "version", "MB"], rows))
    if found := results():
        typer.echo(_results_table("", found))
    if not rows and not found:
        typer.echo(f"nothing is cached in {settings.home()}")


@cache.command("prune")
def cache_prune(
    max_size: Annotated[str | None, typer.Option("--max", help="what results may take up, such as 20GB")] = None,
    older_than: Annotated[str | None, typer.Option(help="remove what was not used for so long: 30d, 12h, 2w")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
) -> None:
    """Remove results of map, filter and reading files, the least recently used first; what is in use stays."""
    from plait.data.disk import bytes_in
    from plait.data.inventory import prune, seconds_in

    removed, kept = prune(
        max_bytes=None if max_size is None else bytes_in(max_size),
        older_than=None if older_than is None else seconds_in(older_than),
        dry_run=dry_run,
    )
    if removed:
        typer.echo(_results_table("", removed))
    gone, left = (sum(result.bytes for result in part) / 1e6 for part in (removed, kept))
    verb = "would be removed" if dry_run else "removed"
    typer.echo(f"{len(removed)} results ({gone:.1f} MB) {verb}, {len(kept)} ({left:.1f} MB) kept")


@cache.command("why")
def cache_why(
    key: Annotated[str, typer.Argument(metavar="KEY|last", help="the key of a result, or its first characters")],
) -> None:
    """Show what the key of a result was made of, and what had changed when it was computed."""
    from plait.data.inventory import why

    found = why(key)
    typer.echo(f"{found['key']}: {found['place']}")
    if found["why"]:
        typer.echo(f"computed because: {found['why']}")
    if found["parts"]:
        typer.echo(console.table("", ["part", "digest or value"], [(n, v) for n, v in found["parts"].items()]))


def _results_table(title: str, results: Any) -> str:
    from plait.data.inventory import age_of

    rows = [
        (
            result.key[:12],
            result.entry.get("operation", ""),
            f"{result.entry.get('rows', 0):,}",
            f"{result.bytes / 1e6:.1f}",
            age_of(result.idle),
            result.entry.get("title", ""),
        )
        for result in results
    ]
    return console.table(title, ["key", "operation", "rows", "MB", "unused for", "title"], rows)


def _cached(root: Path) -> Iterator[tuple[str, str, Path]]:
    """Every revision in the cache as (reference, version or commit, folder); the layout is that of plait.hub."""
    for record in sorted((root / "pypi").glob("*/*/record.json")):
        yield f"pypi:{record.parts[-3]}", record.parts[-2].rpartition("-")[0], record.parent
    for snapshot in sorted((root / "hubs").glob("*/*/*s/*/*/snapshots/*")):
        hub, _, kind, organisation, name = snapshot.parts[-7:-2]
        reference = name if organisation == "-" else f"{organisation}/{name}"
        yield f"{hub} {kind.removesuffix('s')} {reference}", snapshot.name[:12], snapshot
    for file in sorted((root / "addresses").glob("*/files/*")):
        yield f"https …/{file.name}", file.resolve().name[:12], file.parent


def _size(folder: Path) -> int:
    """Bytes of the files below a folder; links count as what they point to."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _lines() -> Iterator[str]:
    """Lines of standard input until an empty one; a prompt is shown on a terminal."""
    while True:
        if sys.stdin.isatty():
            typer.echo("> ", nl=False, err=True)
        line = sys.stdin.readline().strip()
        if not line:
            return
        yield line


def _looked_inside(reference: str, text: str, table: Path | None, folder: Path) -> Path:
    """The page about `text`, and the CSV file `table` that it asks about, in a model."""
    from plait.errors import require
    from plait.inside import look, task_of, write
    from plait.models import auto

    require("matplotlib", extra="train", purpose="draw attention maps")  # said before a model is loaded
    config = auto.AutoConfig.from_pretrained(reference)
    task = "causal_lm" if reference.lower().endswith(".gguf") else task_of(config)
    loaders = vars(auto).values()
    loader = next(each for each in loaders if getattr(each, "task", None) == task)
    if task == "table_question_answering" and table is None:
        raise OptionError(
            f"{reference} reads questions on tables: add --table FILE.csv, the table that --text asks about."
        )
    columns = None if table is None else _columns(table)
    model, tokenizer = loader.from_pretrained(reference), auto.AutoTokenizer.from_pretrained(reference)
    return write(look(model, tokenizer, text, table=columns, title=reference), folder)


def _columns(file: Path) -> dict[str, list[str]]:
    """The cells of a CSV file as they are written, by column."""
    import csv

    if not file.is_file():
        raise OptionError(f"--table {file} is not there, or no file.")
    with file.open(encoding="utf-8-sig", newline="") as lines:
        header, *rows = [row for row in csv.reader(lines) if row] or [[]]
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise OptionError(f"Row {number} of {file} has {len(row)} cells, but the header has {len(header)}.")
    return {name: [row[place] for row in rows] for place, name in enumerate(header)}


def _language_model(reference: str) -> tuple[Any, Any]:
    from plait.models.auto import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(reference).eval(), AutoTokenizer.from_pretrained(reference)


def _print_answer(
    network: Any, tokenizer: Any, ids: Any, *, max_new_tokens: int, temperature: float, seed: int | None
) -> str:
    """Print the continuation of `ids` (1, T) as it grows; returns it."""
    from plait.generate.text import generate_text

    choice: dict[str, Any] = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    choice["num_beams"] = 1  # what a model's files ask for beside it cannot be told as it grows
    pieces = []
    for piece in generate_text(network, tokenizer, ids, max_new_tokens=max_new_tokens, seed=seed, **choice):
        typer.echo(piece.text, nl=False)
        sys.stdout.flush()
        pieces.append(piece.text)
    typer.echo()
    return "".join(pieces)
