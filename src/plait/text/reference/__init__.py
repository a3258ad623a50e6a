"""Tokenizers in plain Python, to read and to check the compiled engine against: `use_fast=False`.

A tokenizer is a pipeline, and each stage is a file:

    text ─added tokens─▶ sections ─normalize─▶ text ─split─▶ words ─model─▶ tokens ─frame─▶ row
                                    (normalize.py)  (split.py)  (wordpiece.py, bpe.py, unigram.py)

and back, tokens ─decode─▶ text (decode.py). Ids equal those of the compiled engine.
"""
