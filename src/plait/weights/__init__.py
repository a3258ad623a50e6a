"""Tensors on disk: checkpoints of every format as names, shapes and memory-mapped views, and tables that rename.

| file | complete for |
|---|---|
| checkpoint.py | what every format offers, and which file of a folder is opened |
| mapped.py | a memory-mapped file and tensors that are views of it |
| safetensors.py, torch_archive.py | one format each |
| sharded.py | checkpoints in several files, with or without an index |
"""
