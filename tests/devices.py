"""Runs a script in a process with 8 devices, once for all tests of a worker."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from child import output_of

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
    return json.loads(output_of("-W", "ignore", HERE / script, **own))
