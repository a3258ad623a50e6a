"""Published checkpoints against the reference library: MiniLM (BERT, safetensors) and SmolLM2 (Llama, GGUF Q4_1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from parity_harness import TOLERANCE, check, difference, first_divergence
from torch import Tensor

from plait.models.auto import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer
from plait.models.model import PretrainedModel

SENTENCES = [
    "A cat sits on the mat.",
    "How are you today, my friend? I have not seen you for a very long time.",
    "天气很好。",
]


@pytest.mark.network
def test_minilm_states_and_sentence_vectors(minilm: Path) -> None:
    ours = AutoModel.from_pretrained(minilm)
    theirs = transformers.AutoModel.from_pretrained(minilm, attn_implementation="eager").eval()
    inputs = dict(transformers.AutoTokenizer.from_pretrained(minilm)(SENTENCES, padding=True, return_tensors="pt"))
    mask = inputs["attention_mask"]
    check(ours, theirs, inputs, mask, output_hidden_states=True, output_attentions=True)

    def sentences(model: Any) -> Tensor:
        with torch.no_grad():
            states = model(**inputs).last_hidden_state * mask[:, :, None]
        return torch.nn.functional.normalize(states.sum(dim=1) / mask.sum(dim=1, keepdim=True))

    assert difference(sentences(ours), sentences(theirs)) <= TOLERANCE
    # What is loaded is the file, to the bit, and as a view of it.
    expected = theirs.state_dict()
    assert torch.equal(
        ours.network.stack.layers[3].mlp.up.weight, expected["encoder.layer.3.intermediate.dense.weight"]
    )
    assert ours.num_parameters() == theirs.num_parameters()
    assert not ours.training


@pytest.fixture(scope="session")
def smollm2_reference(smollm2: Path) -> Any:
    """The reference's own reading of the GGUF file; it takes a while."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        smollm2.parent, gguf_file=smollm2.name, attn_implementation="eager", dtype=torch.float32
    )
    return model.eval()


@pytest.fixture(scope="session")
def smollm2_model(smollm2: Path) -> PretrainedModel:
    return AutoModelForCausalLM.from_pretrained(smollm2)


@pytest.mark.network
@pytest.mark.slow
def test_smollm2_logits(smollm2_model: PretrainedModel, smollm2_reference: Any) -> None:
    ids = torch.randint(0, 49152, (2, 40), generator=torch.Generator().manual_seed(0))
    left = torch.ones_like(ids)
    left[1, :15] = 0
    for mask in (None, left):
        inputs = {"input_ids": ids} if mask is None else {"input_ids": ids, "attention_mask": mask}
        with torch.no_grad():
            mine, other = smollm2_model(**inputs).logits, smollm2_reference(**inputs).logits
        seen = torch.ones_like(ids).bool() if mask is None else mask.bool()
        assert difference(mine[seen], other[seen]) <= TOLERANCE
    assert first_divergence(smollm2_model, smollm2_reference, {"input_ids": ids[:1]}) is None


@pytest.mark.network
@pytest.mark.slow
def test_smollm2_answers_as_the_reference_does(
    smollm2: Path, smollm2_model: PretrainedModel, smollm2_reference: Any
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    for question in ("What is the capital of France?", "Count from one to five.", "写一句关于猫的话。"):
        chat = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer(chat, return_tensors="pt", add_special_tokens=False)["input_ids"]
        mine = smollm2_model.generate(ids, max_new_tokens=32, do_sample=False)
        other = smollm2_reference.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=32, do_sample=False, pad_token_id=2
        )
        assert mine.tolist() == other.tolist(), question


@pytest.mark.network
def test_smollm2_configuration(smollm2: Path, smollm2_model: PretrainedModel) -> None:
    config = AutoConfig.from_pretrained(smollm2)
    assert (config.model_type, config.num_hidden_layers, config.vocab_size) == ("llama", 30, 49152)
    assert config.tie_word_embeddings
    assert config == smollm2_model.config
    assert smollm2_model.num_parameters() == 134_515_008
    assert smollm2_model.generation_config is not None
    assert smollm2_model.generation_config.eos_token_id == 2


@pytest.mark.network
@pytest.mark.slow
def test_smollm2_saved_from_gguf_loads_in_the_reference(smollm2_model: PretrainedModel, tmp_path: Path) -> None:
    smollm2_model.save_pretrained(tmp_path, max_shard_size="200MB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    loaded, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        # The model magnifies roundings on these ids: its scores in float32 are 1e-4 of the largest from those in
        # float64, in whatever order sums are taken.
        assert difference(smollm2_model(ids).logits, loaded.eval()(ids).logits) <= 1e-3
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    for (name, mine), other in zip(again.named_parameters(), smollm2_model.parameters(), strict=True):
        assert torch.equal(mine, other), name
