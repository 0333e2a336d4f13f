"""Runs a script in a process with 8 devices, once for all tests, whichever worker they run in."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def shared(name: str, find: Callable[[], str]) -> str:
    """The text that ``find`` gives, which one worker finds while the others wait for it."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        return find()
    place = Path(tempfile.gettempdir()) / f"jscope-{run}-{name}.json"
    with place.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        found = file.read()
        if not found:
            found = find()
            file.write(found)
    return found


@functools.cache
def on_eight_devices(script: str, *, optimized: bool = False) -> Any:
    """The JSON that a script beside this file prints.

    Args:
      script: Its name.
      optimized: Whether XLA optimizes, which costs time and decides over last bits and memory.
    """
    return json.loads(shared(script, lambda: _run(script, optimized=optimized)))


def _run(script: str, *, optimized: bool) -> str:
    flags = "--xla_force_host_platform_device_count=8"
    flags += "" if optimized else " --xla_backend_optimization_level=0"
    own = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, "-W", "ignore", str(HERE / script)]
    done = subprocess.run(
        command, env={**os.environ, **own}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stdout
