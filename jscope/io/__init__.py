"""Weights in and out: checkpoints of TensorFlow, safetensors and NumPy files, by name.

``open(path)`` reads what anyone wrote as one flat, lazy mapping of names to arrays, a
``Checkpoint``; ``jscope.restore`` puts them into a tree of known names; ``save(path, tree)`` writes
one, whole or not at all.
"""

from jscope._hints import watch
from jscope.io._checkpoint import Checkpoint
from jscope.io._open import open  # noqa: A004 # as gzip.open
from jscope.io._restore import restore
from jscope.io._restore_report import RestoreReport
from jscope.io._save import save

__all__ = ["Checkpoint", "RestoreReport", "open", "restore", "save"]


def __dir__() -> list[str]:
    return __all__


watch(__name__)
