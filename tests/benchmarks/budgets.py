"""Measures the budgets of jscope against plain JAX and other libraries, and prints a table.

    pip install -e '.[bench]'
    python tests/benchmarks/budgets.py [--quick] [--rows trace init ...] [--json PATH]

Contestants take turns in one process (A B C A B C ...), with a garbage collection before each
measurement. A figure is the median over the rounds of the ratio to the baseline in the same round.
Work of one Python thread counts CPU-seconds, which other load on the machine disturbs less than
wall time; jitted calls count wall time. Whatever compiles (init) runs in a process of its own for
each measurement, and counts the CPU-seconds of all its threads, after the imports and one trivial
compilation; the compilation of a stack counts them too, after jax.clear_caches(). JAX's compilation
cache on disk is switched off.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import difflib
import gc
import importlib
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from networks import (
    DEPTH,
    HAIKU,
    JSCOPE,
    JSCOPE_LOOP,
    JSCOPE_ONCE,
    LIBRARIES,
    PLAIN,
    PLAIN_PER_LAYER,
    WAYS,
    Library,
    Network,
)

import jscope as js
from jscope._hlo import canonical

TOKENS = [4, 64, 64]  # batch, time, features: XLA compiles faster than for smaller ones on CPU
NOT_INSTALLED = "not installed: pip install -e '.[bench]'"


class Effort(NamedTuple):
    """How often things are measured."""

    rounds: int  # of what takes a fraction of a second
    slow_rounds: int  # of what takes a second
    compiles: int  # of what compiles, which takes some seconds
    jitted: tuple[str, ...]  # whose init is jitted, which takes minutes each


FULL = Effort(rounds=61, slow_rounds=21, compiles=7, jitted=tuple(LIBRARIES))
QUICK = Effort(rounds=7, slow_rounds=3, compiles=2, jitted=(JSCOPE.name, HAIKU.name))

Task = Callable[[], float]  # measures once, in seconds
Measured = tuple[dict[str, list[float]], dict[str, str]]  # by library: seconds, or why none


@dataclasses.dataclass
class Line:
    """One line of the table."""

    measure: str
    against: str
    budget: float | None  # None: no budget
    unit: str = "x"
    cells: dict[str, str] = dataclasses.field(default_factory=dict)  # by library
    met: bool | None = None  # None: no budget, or nothing measured
    medians: dict[str, float] = dataclasses.field(default_factory=dict)  # seconds
    middle_half: tuple[float, float] | None = None  # of jscope's ratios
    notes: dict[str, str] = dataclasses.field(default_factory=dict)


class ChildError(Exception):
    """A measurement in a process of its own failed; the text is its last line of output."""


def run_child(*arguments: str) -> str:
    """What ``python *arguments`` prints."""
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages have their bytecode
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ChildError((done.stderr.strip() or f"exit {done.returncode}").splitlines()[-1])
    return done.stdout


def why(error: Exception) -> str:
    """One line for a library that cannot be measured."""
    modules = {library.module.partition(".")[0] for library in LIBRARIES.values()}
    if isinstance(error, ModuleNotFoundError) and error.name in modules:
        return NOT_INSTALLED
    text = str(error).strip().partition("\n")[0]
    return text if isinstance(error, ChildError) else f"{type(error).__name__}: {text}"


def measure_all(
    make: Callable[[Library], Task],
    rounds: int,
    *,
    libraries: Mapping[str, Library] = LIBRARIES,
    warm_up: bool = True,
) -> Measured:
    """Seconds by library, one for each round, and why the others have none."""
    tasks: dict[str, Task] = {}
    notes: dict[str, str] = {}
    for name, library in libraries.items():
        try:
            tasks[name] = make(library)
        except Exception as error:
            notes[name] = why(error)
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(-int(warm_up), rounds):
        for name in list(tasks):
            gc.collect()
            try:
                figure = tasks[name]()
            except Exception as error:
                notes[name] = why(error)
                del tasks[name], seconds[name]
                continue
            if number >= 0:
                seconds[name].append(figure)
    return seconds, notes


def compare(line: Line, measured: Measured, bases: Mapping[str, list[float]] | None = None) -> Line:
    """Fills ``line`` with the ratios to its baseline, or to each library's own, and the verdict."""
    seconds, notes = measured
    line.notes |= notes
    line.medians = {name: statistics.median(times) for name, times in seconds.items()}
    if bases is None:
        if line.against not in seconds:
            return line
        bases = dict.fromkeys(seconds, seconds[line.against])
    for name, times in seconds.items():
        ratios = [mine / other for mine, other in zip(times, bases[name], strict=True)]
        ratio = statistics.median(ratios)
        enter(line, name, ratio)
        if name == JSCOPE.name:
            line.middle_half = quartiles(ratios)
    return line


def enter(line: Line, name: str, figure: float) -> None:
    """Writes one library's figure into ``line``, and the verdict if it is jscope's."""
    line.cells[name] = f"{show(figure)}{line.unit}"
    if name == JSCOPE.name and line.budget is not None:
        line.met = figure <= line.budget


def race(measure: str, budget: float, make: Callable[[Library], Task], rounds: int) -> Line:
    """One line: everybody measured in turn and compared with plain JAX."""
    return compare(Line(measure, PLAIN.name, budget), measure_all(make, rounds))


def quartiles(figures: list[float]) -> tuple[float, float]:
    """The borders of the middle half."""
    if len(figures) < 2:
        return figures[0], figures[0]
    low, _, high = statistics.quantiles(figures, n=4, method="inclusive")
    return low, high


def show(figure: float) -> str:
    """Two digits after the point; more for small figures, none for large ones and counts."""
    if isinstance(figure, int):
        return str(figure)
    if figure < 0.1:
        return f"{figure:.3f}"
    return f"{figure:.2f}" if figure < 10 else f"{figure:.0f}"


def cpu_time(work: Callable[[], Any], repeats: int = 1) -> float:
    """CPU-seconds of one call of ``work``, which stays in this thread."""
    start = time.thread_time()
    for _ in range(repeats):
        work()
    return (time.thread_time() - start) / repeats


def wall_time(work: Callable[[], Any], repeats: int = 1) -> float:
    """Seconds of one call of ``work``."""
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - start) / repeats


def small_mlp(library: Library) -> tuple[Network, Any, jax.Array]:
    """The network of 1000 small arrays: functions, params, input."""
    x = jnp.ones([2, 8])
    network = library.mlp("shared")
    return network, network.init(jax.random.key(0), x), x


def small_transformer(library: Library) -> tuple[Network, Any, jax.Array]:
    """The network of 12 layers: functions, shapes of params, input."""
    x = jnp.ones(TOKENS)
    network = library.transformer()
    return network, jax.eval_shape(network.init, jax.random.key(0), x), x


def loss_of(network: Network) -> Callable[[Any, jax.Array], jax.Array]:
    """A fresh loss, which no cache of JAX knows."""
    apply = network.fresh_apply()
    return lambda params, x: jnp.square(apply(params, x)).mean()


# Rows. To add a budget, write a function of this kind; ROWS below finds it by name.


def trace(effort: Effort) -> Iterator[Line]:
    def make(library: Library) -> Task:
        network, params, x = small_mlp(library)

        def task() -> float:
            jitted = jax.jit(network.fresh_apply())
            return cpu_time(lambda: jitted.trace(params, x))

        return task

    yield race("trace of apply, 1000 variables in 100 scopes", 1.06, make, effort.rounds)


def init(effort: Effort) -> Iterator[Line]:
    def measure(objects: str, mode: str, names: Iterable[str], rounds: int) -> Measured:
        def make(library: Library) -> Task:
            importlib.import_module(library.module)
            way = "eager" if library is JSCOPE else mode  # jscope has nothing to gain by jit
            return lambda: float(run_child(__file__, "--child", library.name, way, objects))

        libraries = {name: LIBRARIES[name] for name in names}
        return measure_all(make, rounds, libraries=libraries, warm_up=False)

    for objects in ("shared", "fresh"):
        what = f"init and compile, 500 layers, {objects} initializer objects"
        line = Line(f"{what}; the others eager", HAIKU.name, 0.5)
        yield compare(line, measure(objects, "eager", LIBRARIES, effort.compiles))
        if objects == "shared" or effort is FULL:
            line = Line(f"{what}; the others under jit", HAIKU.name, 0.02)
            yield compare(line, measure(objects, "jit", effort.jitted, 1))
    what = "init and compile, 500 layers, users' functions; the others eager"
    both = (JSCOPE.name, HAIKU.name)
    yield compare(Line(what, HAIKU.name, 0.9), measure("users", "eager", both, effort.compiles))


def layers_child(name: str, depth: int) -> None:
    """Prints the CPU-seconds of the first init in this process, and of the second."""
    library = JSCOPE_ONCE if name == JSCOPE.name else LIBRARIES[name]
    network = library.transformer(depth)
    key, x = jax.random.key(0), jnp.ones(TOKENS)
    jax.block_until_ready(jax.jit(lambda x: x + 1)(x))
    for _ in range(2):
        start = time.process_time()
        jax.block_until_ready(jax.tree.leaves(network.init(key, x)))
        print(time.process_time() - start)


def passes_child(some: int, many: int) -> None:
    """Prints the resident memory, in KiB, after some passes of apply, and after many."""
    apply = JSCOPE_ONCE.transformer().fresh_apply()
    x = jnp.ones(TOKENS)
    params = jax.eval_shape(JSCOPE_ONCE.transformer().init, jax.random.key(0), x)
    for number in range(1, many + 1):
        jax.eval_shape(lambda params, x: apply(params, x), params, x)  # a new function: a pass
        if number in (some, many):
            gc.collect()
            with open("/proc/self/statm") as file:
                print(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024)


def init_child(name: str, mode: str, objects: str) -> None:
    """Prints the CPU-seconds that init takes in this process."""
    network = LIBRARIES[name].mlp(objects)
    make = jax.jit(network.init) if mode == "jit" else network.init
    key, x = jax.random.key(0), jnp.ones([8, 64])
    jax.block_until_ready(jax.jit(lambda x: x + 1)(x))
    start = time.process_time()
    jax.block_until_ready(jax.tree.leaves(make(key, x)))
    print(time.process_time() - start)


DEVICES = (4, 2)
AXES = ("data", "model")
LAYOUTS: dict[str, Mapping[str, Any]] = {
    "by name": {"**": P("data", "model")},
    "by a function": {"**": lambda spec: P("data", "model")},
    "by fsdp": {"**": js.fsdp(AXES)},
    "by two names": {"even/**": P("data", "model"), "**": P(None, AXES)},
    "replicated": {"**": P()},
}
DIVIDED = ("by name", "by a function", "by fsdp")  # over all devices, in one way for all


def sharded(effort: Effort) -> Iterator[Line]:
    """Init over 8 host devices against init without a mesh, in processes that take turns."""
    cases = [(1, layout, kind) for layout in LAYOUTS for kind in ("auto", "explicit")]
    cases += [(10, "by name", kind) for kind in ("auto", "explicit")]
    taken: dict[tuple[int, str, str], list[float]] = {}
    for _ in range(effort.compiles):
        for shapes, layout, kind in [(1, "none", ""), (10, "none", ""), *cases]:
            child = "--child", f"{layout}, {kind}", "sharded", str(shapes)
            figure = float(run_child(__file__, *child))
            taken.setdefault((shapes, layout, kind), []).append(figure)
    for case in cases:
        shapes, layout, kind = case
        what = f"init and compile, 120 matrices of {shapes} shapes, {layout}, {kind} axes"
        # What each device has whole is written eight times: that is not for an init to save.
        line = Line(what, "itself, unsharded", 1.5 if layout in DIVIDED else None)
        measured = {JSCOPE.name: taken[case]}, {}
        yield compare(line, measured, {JSCOPE.name: taken[shapes, "none", ""]})


def sharded_child(case: str, shapes: int) -> None:
    """Prints the CPU-seconds of the init of 120 matrices of 1 MiB and more in this process."""
    jax.config.update("jax_num_cpu_devices", 8)
    layout, kind = case.split(", ")

    def matrices() -> None:
        for number in range(120):
            size = 512 + 8 * (number % shapes)  # the least that fsdp divides
            with js.variable_scope(f"{('even', 'odd')[number % 2]}/layer_{number}"):
                js.get_variable("w", [size, size])

    net = js.transform(matrices)
    mesh: Any = contextlib.nullcontext()
    if layout != "none":
        net = js.sharded(net, js.sharding_rules(LAYOUTS[layout]))
        kinds = (jax.sharding.AxisType[kind.capitalize()],) * 2
        mesh = jax.set_mesh(jax.make_mesh(DEVICES, AXES, axis_types=kinds))
    jax.block_until_ready(jax.jit(lambda x: x + 1)(jnp.ones(())))
    with mesh:
        start = time.process_time()
        jax.block_until_ready(jax.tree.leaves(net.init(0)))
        print(time.process_time() - start)


def flatten(effort: Effort) -> Iterator[Line]:
    def make(library: Library) -> Task:
        _, params, _ = small_mlp(library)
        return lambda: cpu_time(lambda: jax.tree.flatten(params), repeats=300)

    yield race("flatten of 1000 arrays in 100 scopes", 1.05, make, effort.rounds)


def call(effort: Effort) -> Iterator[Line]:
    def overhead(library: Library) -> Task:
        _, params, x = small_mlp(library)
        jitted = jax.jit(lambda params, x: x, keep_unused=True)
        return lambda: wall_time(lambda: jax.block_until_ready(jitted(params, x)), repeats=50)

    def update(library: Library) -> Task:
        _, params, _ = small_mlp(library)
        jitted = jax.jit(lambda params: jax.tree.map(lambda array: array * 0.9, params))
        return lambda: wall_time(lambda: jax.block_until_ready(jitted(params)), repeats=20)

    measure = "jitted call with 1000 arrays in 100 scopes"
    yield race(f"{measure}, nothing computed", 1.05, overhead, effort.rounds)
    yield race(f"{measure}, all updated", 1.05, update, effort.rounds)


def lower(effort: Effort) -> Iterator[Line]:
    def make(library: Library, cold: bool) -> Task:
        network, params, x = small_transformer(library)

        def task() -> float:
            if cold:
                jax.clear_caches()
            jitted = jax.jit(jax.grad(loss_of(network)))
            return cpu_time(lambda: jitted.lower(params, x))

        return task

    notes = {
        name: f"n/a with raw jax.checkpoint, which shares weights; this is {copy}"
        for name, library in LIBRARIES.items()
        if (copy := library.copies.get("checkpoint"))
    }
    for cold, state in ((False, ""), (True, ", after jax.clear_caches()")):
        measured = measure_all(
            lambda library, cold=cold: make(library, cold),
            effort.slow_rounds,
            libraries={**LIBRARIES, PLAIN_PER_LAYER.name: PLAIN_PER_LAYER},
        )
        measure = f"lower(grad), 12-layer transformer, block in jax.checkpoint{state}"
        for against in (PLAIN, PLAIN_PER_LAYER):
            budget = 1.1 if against is PLAIN_PER_LAYER and not cold else None
            yield compare(Line(measure, against.name, budget, notes=dict(notes)), measured)


def once(effort: Effort) -> Iterator[Line]:
    """One block in many scopes, against plain JAX that passes it each layer's params."""
    contestants = {**LIBRARIES, JSCOPE.name: JSCOPE_ONCE}
    x = jnp.ones(TOKENS)

    def lowering(network: Network) -> Task:
        params = jax.eval_shape(network.init, jax.random.key(0), x)

        def task() -> float:
            jitted = jax.jit(jax.grad(loss_of(network)))
            return cpu_time(lambda: jitted.lower(params, x))

        return task

    for depth, limit in ((12, 1.35), (48, 1.2), (96, None)):
        rounds = effort.slow_rounds if depth == DEPTH else effort.compiles
        for way in WAYS:
            measured = measure_all(
                lambda library, depth=depth, way=way: lowering(library.transformer(depth, way)),
                rounds,
                libraries=contestants,
            )
            notes = {
                name: f"{library.copies[way]}; raw jax.{way} shares weights"
                for name, library in contestants.items()
                if way in library.copies and library is not JSCOPE_ONCE
            }
            measure = f"lower(grad), {depth} layers, one block in js.{way}"
            budget = limit if way == "checkpoint" else None
            yield compare(Line(measure, PLAIN.name, budget, notes=notes), measured)
        measured = measure_all(
            lambda library, depth=depth: lowering(library.stack(depth)),
            rounds,
            libraries=LIBRARIES,
        )
        yield compare(Line(f"lower(grad), {depth} layers, stacked", PLAIN.name, None), measured)
    yield from _deeper(effort, contestants)
    yield from _same_program(contestants)


def _deeper(effort: Effort, contestants: Mapping[str, Library]) -> Iterator[Line]:
    """Init of many layers against few: in a process that makes its first variables, and again."""
    few, many = 4, 48
    again = 2  # how many figures a process prints: of the first init, and of the second
    bases: list[dict[str, list[float]]] = [{} for _ in range(again)]
    taken: list[dict[str, list[float]]] = [{} for _ in range(again)]

    def make(library: Library) -> Task:
        importlib.import_module(library.module)

        def task() -> float:
            for depth, kept in ((few, bases), (many, taken)):
                printed = run_child(__file__, "--child", library.name, "layers", str(depth))
                for figure, figures in zip(map(float, printed.split()), kept, strict=True):
                    figures.setdefault(library.name, []).append(figure)
            return figure

        return task

    _, notes = measure_all(make, effort.compiles, libraries=contestants, warm_up=False)
    budgets = (("init and compile", 3.0), ("init, all compiled", None))
    for (what, budget), base, times in zip(budgets, bases, taken, strict=True):
        base = {name: base[name][: len(times[name])] for name in times}
        line = Line(f"{what}, {many} layers in js.checkpoint", f"itself, {few} layers", budget)
        yield compare(line, (times, notes), base)


def _same_program(contestants: Mapping[str, Library]) -> Iterator[Line]:
    """Compilation of the loop, and how its optimized program differs."""
    x = jnp.ones(TOKENS)
    for way in WAYS:
        what = (
            f"optimized HLO, gradient of {DEPTH} layers, one block in js.{way}: lines that differ"
        )
        line = Line(what, PLAIN.name, 0, unit="")

        def lower(library: Library, way: str = way) -> Any:
            network = library.transformer(DEPTH, way)
            params = jax.eval_shape(network.init, jax.random.key(0), x)
            return jax.jit(jax.grad(loss_of(network))).lower(params, x)

        seconds = compile_all(line, lower, contestants)
        yield line
        compiling = f"compile of that gradient, one block in js.{way}"
        yield compare(Line(compiling, PLAIN.name, None), (seconds, dict(line.notes)))


def memory(effort: Effort) -> Iterator[Line]:
    """Resident memory after many passes over one net, against after some of them."""
    some, many = (200, 1000) if effort is QUICK else (1000, 10_000)
    line = Line(
        f"resident memory after {many} passes of apply, block in js.checkpoint",
        f"itself, {some} passes",
        1.01,
    )
    before, after = map(
        float, run_child(__file__, "--child", str(some), "passes", str(many)).split()
    )
    enter(line, JSCOPE.name, after / before)
    yield line


def stack(effort: Effort) -> Iterator[Line]:
    shallow, deep, unrolled = 4, 96, 12
    x = jnp.ones(TOKENS)
    functions: dict[str, Callable[[Network], Any]] = {
        "apply": lambda network: network.fresh_apply(),
        "grad": lambda network: jax.grad(loss_of(network)),
    }

    def compiling(network: Network, what: str) -> Task:
        params = jax.eval_shape(network.init, jax.random.key(0), x)

        def task() -> float:
            jax.clear_caches()
            gc.collect()
            jitted = jax.jit(functions[what](network))
            start = time.process_time()
            jitted.lower(params, x).compile()
            return time.process_time() - start

        return task

    def measure(
        what: str, depth: int, libraries: Mapping[str, Library]
    ) -> tuple[Measured, dict[str, list[float]]]:
        """Seconds of ``depth`` layers, and by library of few layers in the same rounds."""
        bases: dict[str, list[float]] = {name: [] for name in libraries}

        def make(library: Library) -> Task:
            few, many = (compiling(library.stack(layers), what) for layers in (shallow, depth))

            def task() -> float:
                bases[library.name].append(few())
                return many()

            return task

        return measure_all(make, effort.compiles, libraries=libraries, warm_up=False), bases

    jax.block_until_ready(jax.jit(lambda x: x + 1)(x))
    itself = f"itself, {shallow} layers"
    for what in functions:
        measured, bases = measure(what, deep, LIBRARIES)
        line = f"trace and compile of {what}, stack of {deep} layers"
        yield compare(Line(line, itself, 1.2), measured, bases)
        yield compare(Line(line, PLAIN.name, None), measured)
        measured, bases = measure(what, unrolled, {JSCOPE.name: JSCOPE_LOOP})
        line = f"trace and compile of {what}, Python loop over {unrolled} layers"
        yield compare(Line(line, itself, None), measured, bases)


def hlo(effort: Effort) -> Iterator[Line]:
    cases: dict[str, tuple[Any, Callable[[Network], Any]]] = {
        "1000-variable network": (small_mlp, lambda network: network.fresh_apply()),
        "transformer": (small_transformer, lambda network: network.fresh_apply()),
        "gradient of the transformer": (
            small_transformer,
            lambda network: jax.grad(loss_of(network)),
        ),
    }
    for case, (build, function) in cases.items():
        line = Line(f"optimized HLO, {case}: lines that differ", PLAIN.name, 0, unit="")

        def lower(library: Library, build: Any = build, function: Any = function) -> Any:
            network, params, x = build(library)
            return jax.jit(function(network)).lower(params, x)

        compile_all(line, lower, LIBRARIES)
        yield line


def compile_all(
    line: Line, lower: Callable[[Library], Any], libraries: Mapping[str, Library]
) -> dict[str, list[float]]:
    """Enters how each library's program differs from the baseline's; seconds of compilation."""
    texts: dict[str, list[str]] = {}
    seconds: dict[str, list[float]] = {}
    for name, library in libraries.items():
        try:
            lowered = lower(library)
            start = time.process_time()
            compiled = lowered.compile()
            seconds[name] = [time.process_time() - start]
            texts[name] = canonical(compiled.as_text())
        except Exception as error:
            line.notes[name] = why(error)
    for name, text in texts.items():
        enter(line, name, count_differing(texts[PLAIN.name], text))
    return seconds


def count_differing(one: list[str], other: list[str]) -> int:
    """How many lines of the one must be removed or changed, or added, to get the other."""
    if one == other:
        return 0
    blocks = difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
    return sum(max(b - a, d - c) for kind, a, b, c, d in blocks if kind != "equal")


def imports(effort: Effort) -> Iterator[Line]:
    def make(library: Library) -> Task:
        importlib.import_module(library.module)

        def task() -> float:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            run_child("-c", f"import {library.module}")
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        return task

    yield race("import of the library", 1.06, make, effort.slow_rounds)


ROWS = {
    row.__name__: row
    for row in (trace, init, sharded, flatten, call, lower, once, memory, stack, hlo, imports)
}


# What is printed.


def version(package: str) -> str:
    """The installed version, or that there is none."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package} not installed"


def describe_machine(quick: bool) -> str:
    """When, where and with what the figures were measured."""
    packages = ["jax", "jaxlib", *(library.distribution for library in LIBRARIES.values())]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return "; ".join(
        [
            datetime.date.today().isoformat(),
            f"Python {platform.python_version()}",
            ", ".join(version(package) for package in dict.fromkeys(packages)),
            f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB",
            f"backend {jax.default_backend()}, load {os.getloadavg()[0]:.1f} at the start",
            "few repetitions" if quick else "full",
        ]
    )


def table(lines: list[Line], notes: dict[str, int]) -> str:
    """The ratios, as a Markdown table."""
    head = ["measure", "against", "budget", "verdict", *LIBRARIES]
    rows = []
    for line in lines:
        verdict = {True: "met", False: "MISSED", None: "-"}[line.met]
        cells = [cell(line, name, line.cells.get(name, "n/a"), notes) for name in LIBRARIES]
        budget = "none" if line.budget is None else f"{show(line.budget)}{line.unit}"
        rows.append([line.measure, line.against, budget, verdict, *cells])
    return markdown(head, rows)


def cell(line: Line, name: str, text: str, notes: dict[str, int]) -> str:
    """The text with the number of its note."""
    note = line.notes.get(name)
    if note is None:
        return text
    return f"{text} [{notes.setdefault(f'{name}: {note}', len(notes) + 1)}]"


def absolute_table(lines: list[Line]) -> str:
    """The medians in milliseconds, as a Markdown table."""
    head = ["measure (milliseconds)", *LIBRARIES, "middle half of jscope's ratios"]
    rows = []
    for line in lines:
        if line.medians:
            figures = [line.medians.get(name) for name in LIBRARIES]
            cells = ["-" if figure is None else f"{figure * 1e3:.4g}" for figure in figures]
            spread = " to ".join(map(show, line.middle_half)) if line.middle_half else "-"
            rows.append([line.measure, *cells, spread])
    return markdown(head, rows)


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table whose columns are aligned as plain text too."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    texts = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"
        for row in texts
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME")
    parser.add_argument("--json", metavar="PATH", help="where to write the machine-readable form")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    jax.config.update("jax_enable_compilation_cache", False)
    if options.child:
        name, what, argument = options.child
        if what == "passes":
            passes_child(int(name), int(argument))
        elif what == "layers":
            layers_child(name, int(argument))
        elif what == "sharded":
            sharded_child(name, int(argument))
        else:
            init_child(name, what, argument)
        return
    machine = describe_machine(options.quick)
    print(machine, end="\n\n", flush=True)
    lines: list[Line] = []
    for name in options.rows:
        for line in ROWS[name](QUICK if options.quick else FULL):
            lines.append(line)
            figure = line.cells.get(JSCOPE.name, "n/a")
            print(f"{line.measure}, against {line.against}: {figure}", file=sys.stderr, flush=True)
    notes: dict[str, int] = {}
    print(table(lines, notes))
    for note, number in notes.items():
        print(f"[{number}] {note}")
    if any(line.medians for line in lines):
        print("\n" + absolute_table(lines))
    if options.json:
        report = {"machine": machine, "lines": [dataclasses.asdict(line) for line in lines]}
        with open(options.json, "w") as file:
            json.dump(report, file, indent=2)


if __name__ == "__main__":
    main()
