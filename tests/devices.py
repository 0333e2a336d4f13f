"""Runs a script in a process with 8 devices, once for all tests of a worker."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@functools.cache
def on_eight_devices(script: str, *, optimized: bool = False) -> Any:
    """The JSON that a script beside this file prints.

    Args:
      script: Its name.
      optimized: Whether XLA optimizes, which costs time and decides over last bits and memory.
    """
    flags = "--xla_force_host_platform_device_count=8"
    flags += "" if optimized else " --xla_backend_optimization_level=0"
    own = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, "-W", "ignore", str(HERE / script)]
    done = subprocess.run(
        command, env={**os.environ, **own}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(done.stdout)
