"""Stand-ins for the other libraries: what is found, what is refused and how, and that nothing stays behind."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import plait
from plait.compat import run_script, standing_in
from plait.compat.names import LIBRARIES, names_of, value_of
from plait.errors import CompatError, NotFoundError, OptionError


def test_names_are_plaits_own() -> None:
    import datasets as real

    with standing_in():
        import datasets
        import evaluate
        from datasets import load_dataset
        from modelscope import AutoModelForCausalLM
        from transformers import AutoTokenizer, LogitsProcessorList, PreTrainedTokenizerFast
        from transformers.generation import GenerationConfig
        from transformers.trainer_callback import TrainerCallback

        assert AutoTokenizer is plait.AutoTokenizer
        assert AutoModelForCausalLM is plait.AutoModelForCausalLM
        assert LogitsProcessorList is plait.LogitsProcessorList
        assert GenerationConfig is plait.GenerationConfig
        assert TrainerCallback is plait.TrainerCallback
        assert load_dataset is datasets.load_dataset is plait.load_dataset
        assert evaluate.load is plait.load_metric
        assert PreTrainedTokenizerFast.__name__ == "Tokenizer"
        assert "AutoTokenizer" in dir(importlib.import_module("transformers"))
        assert datasets.__version__.endswith("+plait")
    assert sys.modules["datasets"] is real


def test_every_name_leads_somewhere() -> None:
    for library in LIBRARIES:
        for name in names_of(library):
            assert value_of(library, name) is not None, (library, name)


def test_classes_of_families(minilm: Path) -> None:
    """What old tutorials import; the model is the one that the class for its task loads."""
    import torch

    with standing_in():
        from modelscope import GPT2LMHeadModel
        from transformers import BertConfig, BertForMaskedLM, BertModel, BertTokenizer, BertTokenizerFast

        rows = BertTokenizer.from_pretrained(minilm)(["Hello"], return_tensors="pt")
        assert rows["input_ids"].tolist() == BertTokenizerFast.from_pretrained(minilm)(["Hello"])["input_ids"]
        with torch.no_grad():
            ours, plain = (each.from_pretrained(minilm)(**rows)[0] for each in (BertModel, plait.AutoModel))
        assert torch.equal(ours, plain)
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
        config = BertConfig(vocab_size=29, **sizes)
        assert (config.model_type, config.hidden_size) == ("bert", 16)
        assert BertForMaskedLM(config)(torch.tensor([[1, 2]])).logits.shape == (1, 2, 29)
        assert BertModel.__name__ == "BertModel"
        assert GPT2LMHeadModel.__mro__[1] is plait.AutoModelForCausalLM
        with pytest.raises(OptionError, match=r"^BertTokenizer\(…\) from single files is not supported: use BertTok"):
            BertTokenizer("vocab.txt")


def test_submodules_are_reachable_as_attributes() -> None:
    with standing_in():
        import transformers

        assert transformers.generation.GenerationConfig is plait.GenerationConfig
        assert transformers.generation.logits_process.LogitsProcessor is plait.LogitsProcessor


def test_a_name_that_is_missing_is_told_with_the_nearest() -> None:
    with standing_in():
        with pytest.raises(
            CompatError,
            match=r"in place of transformers, has no 'AutoTokeniser' in transformers. Did you mean 'AutoTokenizer'\?",
        ):
            from transformers import AutoTokeniser  # noqa: F401
        import transformers

        with pytest.raises(AttributeError, match=r"has no 'AutoModell' in transformers. Did you mean 'AutoModel'\?"):
            _ = transformers.AutoModell
        assert not hasattr(transformers, "AutoModell")
        with pytest.raises(CompatError, match=r"has no 'util2' in transformers.generation. Did you mean 'utils'"):
            import transformers.generation.util2.deep
        with pytest.raises(CompatError, match="It has: AdamW, .*load_dataset.* plait run --keep datasets SCRIPT"):
            from datasets import XYZ  # noqa: F401
        with pytest.raises(ImportError):  # what a script's own try … except expects
            from transformers import FlaxBertModel  # noqa: F401


def test_kept_libraries_are_the_real_ones() -> None:
    import datasets as real

    with standing_in(keep=["datasets"]):
        import datasets
        from transformers import AutoTokenizer

        assert datasets is real
        assert AutoTokenizer is plait.AutoTokenizer
    with (
        pytest.raises(OptionError, match="keep='dataset' is not one of transformers, .*Did you mean 'datasets'"),
        standing_in(keep=["dataset"]),
    ):
        pass


def test_nothing_stays_behind_after_an_error() -> None:
    import transformers as real

    path = list(sys.meta_path)
    with pytest.raises(CompatError), standing_in():
        from transformers import AutoConfig, Nothing  # noqa: F401
    assert sys.modules["transformers"] is real
    assert sys.meta_path == path


def test_an_installed_library_may_mention_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "installed_thing.py").write_text(
        "from transformers import CLIPModel\nimport transformers\nX = transformers.BertModel\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("plait.compat.finder.sysconfig.get_path", lambda name: str(tmp_path))
    with standing_in():
        thing = importlib.import_module("installed_thing")
    with pytest.raises(CompatError, match="has no 'CLIPModel'"):
        thing.CLIPModel()
    assert thing.X.__name__ == "BertModel"


def run(folder: Path, text: str, *arguments: str, expect: int = 0) -> str:
    """The output of a script run by a fresh Python, as the command does it."""
    (folder / "script.py").write_text(textwrap.dedent(text), encoding="utf-8")
    code = "import sys; from plait.compat import run_script; run_script(sys.argv[1], sys.argv[2:])"
    command = [sys.executable, "-c", code, "script.py", *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert result.returncode == expect, result.stderr
    return result.stdout if expect == 0 else result.stderr


def test_a_script_runs_as_python_would_run_it(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("WORD = 'found'\n")
    output = run(
        tmp_path,
        """
        import sys
        from beside import WORD
        from datasets import Dataset
        if __name__ == "__main__":
            print(sys.argv, WORD, __file__)
            print(Dataset.from_dict({"a": [1, 2]}).num_rows)
        """,
        "--size",
        "3",
    )
    assert output.splitlines() == ["['script.py', '--size', '3'] found script.py", "2"]


def test_a_script_imports_no_more_than_it_uses(tmp_path: Path) -> None:
    output = run(tmp_path, "import sys, transformers, datasets, modelscope; print('torch' in sys.modules)")
    assert output.strip() == "False"


def test_a_scripts_own_error_comes_through(tmp_path: Path) -> None:
    assert "ZeroDivisionError" in run(tmp_path, "1 / 0", expect=1)
    assert "Did you mean 'Trainer'" in run(tmp_path, "from transformers import Trainr", expect=1)
    with pytest.raises(NotFoundError, match="There is no script 'nowhere.py'"):
        run_script("nowhere.py")
    argv, path = list(sys.argv), list(sys.path)
    (tmp_path / "fails.py").write_text("raise KeyError('x')")
    with pytest.raises(KeyError):
        run_script(tmp_path / "fails.py", ["1"])
    assert (sys.argv, sys.path) == (argv, path)


def test_importing_plait_installs_nothing() -> None:
    code = "import sys, plait, plait.compat; print([f for f in sys.meta_path if 'plait' in type(f).__module__])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_logging_and_progress_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLAIT_PROGRESS", raising=False)
    before = logging.getLogger("plait").level
    with standing_in():
        import datasets
        from transformers import logging as theirs
        from transformers.utils import logging as same

        assert theirs is same
        theirs.set_verbosity_error()
        assert logging.getLogger("plait").level == logging.ERROR == theirs.get_verbosity()
        theirs.set_verbosity_debug()
        assert theirs.get_logger().isEnabledFor(theirs.DEBUG)
        assert theirs.get_logger("mine").name == "mine"
        datasets.disable_progress_bars()
        assert plait.settings.progress() is False
        theirs.enable_progress_bar()
        assert plait.settings.progress() is None
    logging.getLogger("plait").setLevel(before)


def test_the_small_questions_of_scripts(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with standing_in():
        from modelscope import snapshot_download
        from transformers import is_flax_available, is_tf_available, is_torch_available

        assert snapshot_download(str(tmp_path)) == str(tmp_path)
        assert (is_torch_available(), is_tf_available(), is_flax_available()) == (True, False, False)


def test_the_command_leaves_a_scripts_arguments_alone(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import sys, transformers; print(sys.argv[1:], transformers.__version__)")
    code = "from plait.cli import main; main()"
    arguments = ["run", "--keep", "datasets", "script.py", "--keep", "x", "--help", "-v"]
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "['--keep', 'x', '--help', '-v'] 5.0.0+plait", result.stderr
