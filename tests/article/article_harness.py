"""The article's snippets, run as one script in a folder where its names lead to small local stand-ins.

`snippets/` holds the article's code, letter for letter. A test joins snippets to a script, puts in front of each what
the article presupposes at that place, and runs it as `plait run script.py` does, in a process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from plait.models.auto import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

SNIPPETS = Path(__file__).parent / "snippets"
EXAMPLES = Path(__file__).parents[2] / "examples" / "data"
RUN = "import sys; from plait.compat import run_script; run_script(sys.argv[1], keep=sys.argv[2:])"


def snippet(name: str) -> str:
    return (SNIPPETS / f"{name}.txt").read_text(encoding="utf-8")


def run(folder: Path, script: str, *, keep: tuple[str, ...] = ()) -> str:
    """What the script prints; everything stays on this computer."""
    (folder / "script.py").write_text(script, encoding="utf-8")
    environment = {**os.environ, "PLAIT_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    command = [sys.executable, "-c", RUN, "script.py", *keep]
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def bert(folder: Path, minilm: Path) -> Path:
    """A stand-in for 'bert-base-uncased': its vocabulary and its 12 layers of 12 heads, but 48 wide instead of 768."""
    target = folder / "bert-base-uncased"
    config = AutoConfig.for_model(
        "bert",
        hidden_size=48,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=64,
        initializer_range=0.2,
    )
    torch.manual_seed(0)
    AutoModelForMaskedLM.from_config(config).save_pretrained(target)
    for file in minilm.iterdir():
        if file.name.startswith(("tokenizer", "vocab", "special_tokens")):
            shutil.copy(file, target / file.name)
    settings = json.loads((target / "tokenizer_config.json").read_text(encoding="utf-8"))
    # The real one says 512; padding='max_length' to 48 makes the training of the test ten times shorter.
    settings["model_max_length"] = 48
    (target / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return target


def qwen(target: Path, smollm2: Path | None = None) -> Path:
    """A small Qwen2; with `smollm2`, a chat model with that file's tokenizer and a template that knows thinking."""
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    words = 64
    if smollm2 is not None:
        tokenizer = AutoTokenizer.from_pretrained(smollm2)
        words = len(tokenizer)
        tokenizer.chat_template = (
            "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
            "<|im_start|>assistant\n"
            "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
        )
        tokenizer.save_pretrained(target)
    torch.manual_seed(0)
    config = AutoConfig.for_model("qwen2", vocab_size=words, intermediate_size=64, initializer_range=0.25, **size)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(target)
    return target
