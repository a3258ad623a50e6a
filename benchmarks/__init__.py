"""One script per promise; each prints plait's figure, its peer's and the ratio, from one run."""
