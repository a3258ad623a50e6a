"""`plait run script.py`: scripts written for transformers, datasets, modelscope or evaluate run on plait, unchanged.

names: which modules there are and where their names come from · finder: the import hook · run: the script's process ·
families: classes such as `BertModel` · shims: what only such scripts use. Nothing of this happens unless
`run_script` or `standing_in` is called.
"""

from __future__ import annotations

from plait.compat.finder import standing_in as standing_in
from plait.compat.run import run_script as run_script
