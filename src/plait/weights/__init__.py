"""Tensors on disk: checkpoints of every format as names, shapes and memory-mapped views, and tables that rename.

| file | complete for |
|---|---|
| checkpoint.py | what every format offers, and which file of a folder is opened |
| mapped.py | a memory-mapped file and tensors that are views of it |
| safetensors.py, torch_archive.py, gguf.py + gguf_file.py | one format each |
| dequantise.py | GGUF's quantised blocks as float32 |
| sharded.py | checkpoints in several files, with or without an index |
| template.py, rule.py, rules.py, operations.py | tables that relate two sets of names, both ways |
| translated.py | a checkpoint under other names |
| load.py | strict loading into a module |
| quantise.py | matrices in forms that a CPU multiplies sooner |
| save.py | writing safetensors, sharded, whole at every moment |
"""
