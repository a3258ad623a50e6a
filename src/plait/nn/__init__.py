"""The Transformer: specs (plait.nn.spec, torch-free), the modules they describe, and `build` between the two."""
