"""The answer of the demo's language model, complete: through its chat template if it has one, else a text goes on."""

from __future__ import annotations

import time
from typing import Any

from plait.demo.stages import Stages

QUESTION = "What is a Transformer in machine learning? Answer in two sentences."
BEGINNING = "The film is"


def run(stages: Stages, reference: str, *, max_new_tokens: int = 80) -> str:
    """Print the answer while it is generated, and return it; the same one every time."""
    from plait.generate.text import generate_text
    from plait.models.auto import AutoModelForCausalLM, AutoTokenizer

    start = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(reference)
    model = AutoModelForCausalLM.from_pretrained(reference).eval()
    stages.say(f"   loaded {model.num_parameters() / 1e6:.1f} million numbers in {time.perf_counter() - start:.1f} s")
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": QUESTION}]
        ids = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        stages.say(f"   Question: {QUESTION}\n   Answer: ", end="")
        choice: dict[str, Any] = {"do_sample": False, "num_beams": 1}
    else:
        ids = tokenizer(BEGINNING, return_tensors="pt")["input_ids"]
        stages.say("   This model was trained here, on a few hundred sentences: it has no answers, but it writes.")
        stages.say(f"   {BEGINNING}", end="")
        choice = {"do_sample": True, "num_beams": 1, "temperature": 0.7, "seed": 42}
    start = time.perf_counter()
    pieces = []
    for piece in generate_text(model, tokenizer, ids, max_new_tokens=max_new_tokens, **choice):
        stages.say(piece.text, end="")
        pieces.append(piece)
    seconds = time.perf_counter() - start
    stages.say(f"\n   {pieces[-1].tokens} tokens in {seconds:.1f} s, {pieces[-1].tokens / seconds:.1f} per second")
    return "".join(piece.text for piece in pieces)
