"""Run every benchmark, one after the other, each in a process of its own: `make bench`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

for script in sorted(Path(__file__).parent.glob("*.py")):
    if script.stem not in {"__init__", "__main__", "harness"}:
        subprocess.run([sys.executable, "-m", f"benchmarks.{script.stem}"], check=True)
