"""Train the original Transformer from scratch to write a sequence of symbols backwards.

    python examples/reverse_sequences.py [STEPS]

Label smoothing, Adam and the schedule are those of arXiv:1706.03762. What is asked in the end was never trained on.
"""

import random
import sys

import torch
from torch import Tensor

from plait import AutoModelForSeq2SeqLM, get_scheduler
from plait.nn.loss import cross_entropy

PADDING, START, END, FIRST, SYMBOLS = 0, 1, 2, 3, 20
WIDTH, WARMUP, BATCH = 64, 300, 128


def sequence(numbers: random.Random) -> tuple[int, ...]:
    """4 to 12 symbols."""
    return tuple(numbers.randrange(FIRST, FIRST + SYMBOLS) for _ in range(numbers.randint(4, 12)))


def padded(rows: list[list[int]], padding: int) -> Tensor:
    return torch.tensor([row + [padding] * (13 - len(row)) for row in rows])


def main(steps: int) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # so small a model gains nothing by more
    numbers = random.Random(0)
    unseen = {sequence(numbers) for _ in range(1000)}
    sizes = {"vocab_size": FIRST + SYMBOLS, "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH}
    layers = {"num_attention_heads": 4, "num_encoder_layers": 2, "num_decoder_layers": 2, "hidden_dropout_prob": 0.0}
    model = AutoModelForSeq2SeqLM.from_config({"model_type": "transformer", **sizes, **layers})
    # The paper's rate is (width * max(step, warm-up))^-0.5 behind a linear warm-up; a quarter of it is enough here.
    optimizer = torch.optim.Adam(model.parameters(), lr=0.25 * (WIDTH * WARMUP) ** -0.5, betas=(0.9, 0.98), eps=1e-9)
    schedule = get_scheduler("inverse_sqrt", optimizer, num_warmup_steps=WARMUP)
    for step in range(1, steps + 1):
        rows = [row for row in (list(sequence(numbers)) for _ in range(BATCH)) if tuple(row) not in unseen]
        source, labels = padded(rows, PADDING), padded([row[::-1] + [END] for row in rows], -100)
        scores = model(source, source != PADDING, labels=labels).logits
        loss = cross_entropy(scores, labels, smoothing=0.1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}/{steps}: loss {loss.item():.3f}", flush=True)
    asked = sorted(unseen)
    source = padded([list(row) for row in asked], PADDING)
    answers = model.eval().generate(source, attention_mask=source != PADDING, max_new_tokens=13).tolist()
    right = sum(answer[1 : len(row) + 2] == [*row[::-1], END] for answer, row in zip(answers, asked, strict=True))
    print(f"exact match on {len(asked)} unseen sequences: {right / len(asked):.1%}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 700)
