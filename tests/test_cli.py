"""The command line: light to start, plain in its errors, and the same answers as the library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import plait
from plait import GenerationConfig
from plait.cli import app
from plait.errors import NotFoundError

runner = CliRunner()


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The installed command, in a process of its own."""
    code = "from plait.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        timeout=120,
    )


def test_help_and_version_load_nothing_heavy() -> None:
    code = """
import sys
from plait.cli import main
try:
    main()
except SystemExit as end:
    print("status", end.code)
print("heavy", sorted({name.split(".")[0] for name in sys.modules} & set(sys.argv[2].split(","))))
"""
    heavy = "torch,numpy,pyarrow,tokenizers,safetensors,huggingface_hub,jinja2,httpx,pandas,sklearn,matplotlib"
    for argument in ("--help", "--version"):
        # The second argument is never read: both options end the command at once.
        result = subprocess.run(
            [sys.executable, "-c", code, argument, heavy], capture_output=True, text=True, check=True
        )
        assert result.stdout.splitlines()[-2:] == ["status 0", "heavy []"]
    assert f"plait {plait.__version__}" in result.stdout


def test_every_command_has_a_help_text() -> None:
    for name in ("demo", "run", "fetch", "inspect", "generate", "chat", "serve", "cache"):
        result = runner.invoke(app, [name, "--help"])
        assert result.exit_code == 0, name
        assert "Usage:" in result.output


def test_an_expected_error_is_one_paragraph_and_status_1() -> None:
    result = command("fetch", "./no-such-folder")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("plait: No file or folder './no-such-folder'")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


def test_debug_shows_where_an_error_came_from() -> None:
    result = command("fetch", "./no-such-folder", PLAIT_DEBUG="1")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "NotFoundError" in result.stderr


def test_an_unknown_command_is_a_usage_error() -> None:
    result = runner.invoke(app, ["fecth"])
    assert result.exit_code == 2
    assert "No such command 'fecth'" in result.output


def test_fetch_prints_the_folder_alone(minilm: Path) -> None:
    result = runner.invoke(app, ["fetch", str(minilm)])
    assert result.exit_code == 0
    assert Path(result.stdout.strip()) == minilm


def test_inspect_counts_what_the_file_holds(minilm: Path, smollm2: Path) -> None:
    result = runner.invoke(app, ["inspect", str(minilm)])
    assert result.exit_code == 0
    assert '"hidden_size": 384' in result.stdout
    # all-MiniLM-L6-v2: 101 tensors of 22,713,216 float32 numbers, and whatever position ids the file carries beside.
    assert "million numbers" in result.stdout
    assert "22.7 million numbers" in result.stdout
    listed = runner.invoke(app, ["inspect", str(smollm2), "--tensors"])
    assert "blk.0.attn_q.weight" in listed.stdout
    assert "gguf: 272 tensors, 134.5 million numbers" in listed.stdout


def test_cache_lists_packages_and_repositories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path))
    assert runner.invoke(app, ["cache", "where"]).stdout.strip() == str(tmp_path)
    assert runner.invoke(app, ["cache", "ls"]).stdout.strip() == f"nothing is cached in {tmp_path}"
    wheel = tmp_path / "pypi" / "some-model" / "1.2.0-0123456789abcdef"
    (wheel / "files").mkdir(parents=True)
    (wheel / "record.json").write_text(json.dumps({"version": "1.2.0"}))
    (wheel / "files" / "model.bin").write_bytes(bytes(3_000_000))
    blob = tmp_path / "blobs" / "ab"
    blob.parent.mkdir()
    blob.write_bytes(bytes(2_000_000))
    for name in ("org/bert", "-/gpt2"):
        snapshot = (
            tmp_path / "hubs" / "huggingface" / "https_huggingface.co-1" / "models" / name / "snapshots" / ("c" * 40)
        )
        snapshot.mkdir(parents=True)
        (snapshot / "model.safetensors").symlink_to(blob)
    kept = tmp_path / "addresses" / "https_host_m.gguf-1" / "files"
    kept.mkdir(parents=True)
    (kept / "m.gguf").symlink_to(blob)
    lines = runner.invoke(app, ["cache", "ls"]).stdout.splitlines()
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    assert rows == [
        ["pypi:some-model", "1.2.0", "3.0"],
        ["huggingface model gpt2", "cccccccccccc", "2.0"],
        ["huggingface model org/bert", "cccccccccccc", "2.0"],
        ["https …/m.gguf", "ab", "2.0"],
    ]


def test_an_error_in_a_script_is_told_with_its_line(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from transformers import GenerationConfig\n\nGenerationConfig(top_kk=3)\n")
    result = runner.invoke(app, ["run", str(script)])
    assert result.exit_code == 1
    assert result.stderr == (
        f"{script}, line 3: GenerationConfig(top_kk=3)\n"
        "plait: There is no generation option 'top_kk'. Did you mean 'top_k'?\n"
    )


def test_generate_prints_what_the_library_generates(smollm2: Path) -> None:
    from plait.models.auto import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(smollm2), AutoModelForCausalLM.from_pretrained(smollm2)
    ids = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    expected = model.generate(ids, max_new_tokens=6, do_sample=False)[0, ids.shape[1] :]
    arguments = ["generate", str(smollm2), "--max-new-tokens", "6", "--prompt"]
    result = runner.invoke(app, [*arguments, "The capital of France is"])
    assert result.exit_code == 0
    assert result.stdout == tokenizer.decode(expected, skip_special_tokens=True) + "\n"
    assert "Paris" in result.stdout
    piped = runner.invoke(app, [*arguments, "-"], input="The capital of France is")
    assert piped.stdout == result.stdout


def test_generate_prints_as_it_goes_where_the_files_ask_for_beams(smollm2: Path, tmp_path: Path) -> None:
    from plait.models.auto import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = AutoModelForCausalLM.from_config({"model_type": "llama", "vocab_size": len(tokenizer), **sizes})
    model.generation_config = GenerationConfig(num_beams=4, max_new_tokens=3)
    model.save_pretrained(tmp_path)
    result = runner.invoke(app, ["generate", str(tmp_path), "--max-new-tokens", "6", "--prompt", "The capital"])
    ids = tokenizer("The capital", return_tensors="pt")["input_ids"]
    expected = model.eval().generate(ids, max_new_tokens=6, num_beams=1)[0, ids.shape[1] :]
    assert result.stdout == tokenizer.decode(expected, skip_special_tokens=True) + "\n"


def test_chat_remembers_the_conversation_and_ends_at_an_empty_line(smollm2: Path) -> None:
    from plait.models.auto import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(smollm2), AutoModelForCausalLM.from_pretrained(smollm2)
    messages = []
    answers = []
    for question in ("My name is Ada.", "What is my name?"):
        messages.append({"role": "user", "content": question})
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        row = model.generate(ids["input_ids"], max_new_tokens=12, do_sample=False)[0, ids["input_ids"].shape[1] :]
        answers.append(tokenizer.decode(row, skip_special_tokens=True))
        messages.append({"role": "assistant", "content": answers[-1]})
    typed = "My name is Ada.\nWhat is my name?\n\nnever read\n"
    result = runner.invoke(app, ["chat", str(smollm2), "--max-new-tokens", "12"], input=typed)
    assert result.exit_code == 0
    assert result.stdout == "".join(answer + "\n" for answer in answers)


def test_run_gives_a_script_its_libraries_and_all_its_arguments(tmp_path: Path, minilm: Path) -> None:
    script = tmp_path / "old.py"
    script.write_text(
        "import sys\nfrom transformers import AutoTokenizer\n"
        "tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "print(tokenizer('Hello')['input_ids'], sys.argv[2:], AutoTokenizer.__module__)"
    )
    result = command("run", str(script), str(minilm), "--help", "-x", "1")
    assert result.stdout == "[101, 7592, 102] ['--help', '-x', '1'] plait.models.auto\n", result.stderr
    missing = command("run", str(tmp_path / "none.py"))
    assert missing.returncode == 1
    assert missing.stderr.startswith("plait: There is no script ")


def test_run_shows_a_scripts_error_from_its_own_line_on(tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    script.write_text("def half(x):\n    return x / 0\n\nhalf(3)\n", encoding="utf-8")
    found = command("run", str(script))
    assert found.returncode == 1
    lines = found.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert [line.strip() for line in lines if line.startswith("  File")] == [
        f'File "{script}", line 4, in <module>',
        f'File "{script}", line 2, in half',
    ]
    assert lines[-1] == "ZeroDivisionError: division by zero"
    script.write_text("def half(x:\n", encoding="utf-8")
    broken = command("run", str(script))
    assert broken.stderr.startswith(f'  File "{script}", line 1\n')
    assert "SyntaxError" in broken.stderr.splitlines()[-1]
    script.write_text("raise SystemExit(7)\n", encoding="utf-8")
    assert command("run", str(script)).returncode == 7


def test_serve_hands_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    monkeypatch.setattr("plait.serve.serve", lambda reference, **options: asked.update(reference=reference, **options))
    result = runner.invoke(app, ["serve", "org/name", "--port", "9000", "--name", "small"], env={"PLAIT_API_KEY": "k"})
    assert result.exit_code == 0
    assert "loading org/name, to be served at http://127.0.0.1:9000/v1 (Ctrl-C ends)" in result.output
    place = {"host": "127.0.0.1", "port": 9000}
    assert asked == {"reference": "org/name", **place, "api_key": "k", "name": "small", "prepack": False}
    assert runner.invoke(app, ["serve", "org/name", "--prepack"]).exit_code == 0
    assert asked["prepack"] is True


def test_serve_refuses_an_open_door() -> None:
    result = runner.invoke(app, ["serve", "org/name", "--host", "0.0.0.0"])
    assert result.exit_code == 1
    assert "can be reached from other computers, so an `api_key` that is not empty is required" in result.output


@pytest.mark.parametrize("status", [0, 1])
def test_demo_ends_with_the_status_of_its_stages(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("plait.demo.run_demo", lambda output, *, offline: asked.append((output, offline)) or status)
    assert runner.invoke(app, ["demo", "--offline", "--output", "here"]).exit_code == status
    assert asked == [(Path("here"), True)]


def test_an_unexpected_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr("plait.demo.run_demo", broken)
    assert isinstance(runner.invoke(app, ["demo"]).exception, ZeroDivisionError)


def test_errors_in_process_keep_their_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_DEBUG", "1")
    assert isinstance(runner.invoke(app, ["fetch", "./nowhere"]).exception, NotFoundError)
