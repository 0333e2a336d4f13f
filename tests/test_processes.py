"""Several processes under jax.distributed, on this machine: init, training, a death, a resumption."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from child import PATIENCE
from process_programs import KILLED_AT, KINDS, STEPS

SCRIPT = Path(__file__).parent / "process_programs.py"
TRIES = 3  # somebody else may take the port in between


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


class Cluster:
    """Processes that run one task together.

    Args:
      task: A name of TASKS.
      number: Of processes.
      folder: Where their results and outputs go.
    """

    def __init__(self, task: str, number: int, folder: Path) -> None:
        self.folder, port, root = folder, free_port(), str(SCRIPT.parent.parent)
        # With optimizations: they are what may give other last bits.
        environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "PYTHONPATH": root}
        self.processes: list[subprocess.Popen[bytes]] = []
        for index in range(number):
            command = [sys.executable, "-W", "ignore", str(SCRIPT)]
            command += [task, str(number), str(index), str(port), str(folder)]
            with (folder / f"{index}.log").open("wb") as log:
                # Each ends when the pipe to its standard input closes, as it does with this process.
                self.processes.append(
                    subprocess.Popen(
                        command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment
                    )
                )

    def wait(self) -> list[int | None]:
        """Their exit codes once all have ended, or one has not well; None of those that run."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            codes = [process.poll() for process in self.processes]
            if all(code == 0 for code in codes) or any(codes):
                return codes
            time.sleep(0.05)
        raise AssertionError(f"still running after {PATIENCE} seconds:\n{self.logs()}")

    def logs(self) -> str:
        return "\n".join(
            f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}"
            for log in sorted(self.folder.glob("*.log"))
        )

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()


@contextlib.contextmanager
def cluster(task: str, number: int, folder: Path) -> Iterator[Cluster]:
    """Processes, none of which outlives the block."""
    running = Cluster(task, number, folder)
    try:
        yield running
    finally:
        running.end()


def results(task: str, number: int, folder: Path) -> list[Any]:
    """What a task returned in each process."""
    for _ in range(TRIES):
        with cluster(task, number, folder) as running:
            codes = running.wait()
            logs = running.logs()
        if "address already in use" not in logs.lower():
            break
    assert codes == [0] * number, logs
    return [json.loads((folder / f"{index}.json").read_text()) for index in range(number)]


@functools.cache
def found(task: str, number: int) -> list[Any]:
    with tempfile.TemporaryDirectory() as folder:
        return results(task, number, Path(folder))


TRAINED = [*(("everything", 2, kind) for kind in KINDS), ("train", 4, "auto")]


@pytest.mark.parametrize(("task", "number", "kind"), TRAINED)
def test_processes_make_and_train_together_what_one_would(
    task: str, number: int, kind: str
) -> None:
    ends = [result[kind] for result in found(task, number)]
    assert all(end == ends[0] for end in ends)
    assert ends[0]["wrong"] == {}
    assert ends[0]["slots"]
    assert ends[0]["as on one device"]
    assert len(ends[0]["losses"]) == STEPS


def test_all_initial_values_are_global_arrays_wherever_they_come_from() -> None:
    for result in found("everything", 2):
        assert len(result["starts"]) == 13
        assert {name: end for name, end in result["starts"].items() if end} == {}


def test_no_rules_no_set_mesh_and_jit_make_global_arrays_too() -> None:
    for result in found("everything", 2):
        assert result["ways"] == {"mesh=": "", "no rules": "", "jit": ""}


FIXES = {
    "rng": "give all processes one seed or key.",
    "variables": "let all processes make the same variables, of the same shapes, in one order.",
    "layouts": "give all processes the same rules and partitioners.",
    "constants": "give all processes the same constants, or draw them from the initializer's key.",
    "arguments": "give a global array of all examples, jax.make_array_from_process_local_data.",
}


@pytest.mark.parametrize("index", range(2))
def test_processes_that_differ_are_told_so_each(index: int) -> None:
    told = found("everything", 2)[index]["refusals"]
    layout = told.pop("layout")
    assert re.sub(r" at \S+ in <lambda>", "", layout) == (
        "Variables cannot be laid out over the mesh (data=4, model=2): 1 problem.\n"
        "  w: float32[3], rule 'w', axis 0 of (3,) does not divide into 4 parts, along 'data' of "
        "P('data')\n"
        "  fix:    divide another axis, as jscope.fsdp(...) looks for one, or let it be replicated."
    )
    assert told == {
        part: "The processes of the mesh do not initialize alike: "
        f"process {index} differs from process {1 - index} in {part}.\n  fix:    {fix}"
        for part, fix in FIXES.items()
    }


@pytest.mark.parametrize(("task", "number"), [("everything", 2), ("train", 4)])
def test_a_run_goes_on_with_the_same_losses_after_one_process_was_killed(
    task: str, number: int, tmp_path: Path
) -> None:
    with cluster("killed", number, tmp_path) as running:
        codes = running.wait()
        logs = running.logs()
    assert codes[-1] == -signal.SIGKILL, logs
    assert not list(tmp_path.glob("*.json"))
    whole = found(task, number)[0]["auto"]["losses"]
    for end in results("resumed", number, tmp_path):
        assert end == {"first": KILLED_AT, "losses": whole[KILLED_AT:]}
