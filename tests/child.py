"""Runs Python in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def output_of(*arguments: str | Path, **environment: str) -> str:
    """What ``python`` with these arguments prints; it has to end well."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stdout
