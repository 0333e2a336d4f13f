"""Runs Python in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PATIENCE = 1200  # seconds, on a machine that does other things too: a process that hangs is told


def output_of(*arguments: str | Path, **environment: str) -> str:
    """What ``python`` with these arguments prints; it has to end well."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stdout
