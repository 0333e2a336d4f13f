"""jscope against what TensorFlow 1 did, as recorded in ``data`` by ``data/record_tf1.py``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tf1_programs
import tf1_tables

import jscope as js

DATA = Path(__file__).parent / "data"


def recorded(name: str) -> Any:
    return json.loads((DATA / name).read_text())


SCOPES: dict[str, list[str]] = recorded("scopes.json")["programs"]


class Calls:
    """The calls of ``tf.compat.v1`` that the programs make, over jscope."""

    array = staticmethod(np.array)
    ones = staticmethod(jnp.ones)
    constant_initializer = staticmethod(js.initializers.constant)
    ones_initializer = staticmethod(js.initializers.ones)
    zeros_initializer = staticmethod(js.initializers.zeros)
    gru = staticmethod(js.layers.gru)
    lstm = staticmethod(js.layers.lstm)
    dynamic_rnn = staticmethod(js.layers.dynamic_rnn)

    def __getattr__(self, name: str) -> Any:
        return getattr(js, name)


class Results(NamedTuple):
    """The lines that one program gave in init, and in apply with the params of init."""

    in_init: list[list[str]]
    in_apply: list[list[str]]
    made: list[list[str]]


def run_program(program: tf1_programs.Program) -> Results:
    runs: list[list[list[str]]] = []

    def fn() -> None:
        namespace = tf1_programs.Namespace(Calls())
        program(namespace)
        runs.append(namespace.lines)

    net = js.transform_with_state(fn)
    specs = net.specs()
    values = [net.init(seed) for seed in range(2)]
    assert all(lines == runs[0] for lines in runs)
    net.apply(*values[0], None)
    flat = [{**js.tree.flatten(params), **js.tree.flatten(state)} for params, state in values]
    assert sorted(flat[0]) == sorted(specs)
    made = [
        tf1_programs.describe(
            name,
            spec.dtype.name,
            spec.shape,
            trainable=spec.trainable,
            values=(flat[0][name], flat[1][name]),
            regularizer=getattr(spec.regularizer, "tag", None),
            constraint=getattr(spec.constraint, "tag", None),
        )
        for name, spec in specs.items()
    ]
    return Results(runs[0], runs[-1], [[line] for line in made])


def in_jscope(line: str) -> str:
    """A line of TensorFlow with the words that jscope has for the same things."""
    line = line.replace("tf.AUTO_REUSE", "jscope.AUTO_REUSE").replace("tf.get_", "get_")
    return line.replace("_ref.", ".")


def as_spelled(found: list[list[str]], wanted: list[str]) -> list[str]:
    """What was found, each line in the spelling that is wanted if it has that one."""
    padded = [*wanted, *[""] * len(found)]
    return [line if line in lines else lines[0] for lines, line in zip(found, padded, strict=False)]


def in_tf1(name: str) -> list[str]:
    return [in_jscope(line) for line in SCOPES[name]]


@pytest.mark.parametrize("name", tf1_programs.SAME)
def test_a_program_does_what_it_does_in_tf1(name: str) -> None:
    results = run_program(tf1_programs.SAME[name])
    assert as_spelled(results.in_init + results.made, in_tf1(name)) == in_tf1(name)
    assert results.in_apply == results.in_init


@pytest.mark.parametrize("name", tf1_programs.CHANGED)
def test_a_program_that_differs_from_tf1_does_so_as_documented(name: str) -> None:
    changed = tf1_programs.CHANGED[name]
    results = run_program(changed.program)
    lines = results.in_init + results.made
    assert as_spelled(lines, changed.instead) == changed.instead, changed.why
    assert as_spelled(lines, in_tf1(name)) != in_tf1(name)
    assert results.in_apply == results.in_init


@pytest.mark.parametrize("name", tf1_programs.CHANGED_IN_APPLY)
def test_a_program_that_differs_in_apply_does_so_as_documented(name: str) -> None:
    changed = tf1_programs.CHANGED_IN_APPLY[name]
    results = run_program(changed.program)
    assert as_spelled(results.in_init + results.made, in_tf1(name)) == in_tf1(name)
    assert as_spelled(results.in_apply, changed.instead) == changed.instead, changed.why


def test_every_program_is_recorded() -> None:
    groups = (tf1_programs.SAME, tf1_programs.CHANGED, tf1_programs.CHANGED_IN_APPLY)
    assert list(SCOPES) == [name for group in groups for name in group]


LAYERS: dict[str, Any] = recorded("layers.json")["layers"]


def run_filled(fn: Callable[..., Any], inputs: Any) -> tuple[js.Specs, Any, dict[str, Any]]:
    """The specs of a function; its outputs and its new state, with the values of ``fill``."""
    net = js.transform_with_state(fn)
    specs = net.specs(inputs)
    trees: list[dict[str, Any]] = [{}, {}]
    for name, spec in specs.items():
        trees[spec.trainable][name] = tf1_tables.fill(name, spec.shape)
    state, params = map(js.tree.unflatten, trees)
    outputs, state = jax.jit(net.apply)(params, state, None, inputs)
    return specs, outputs, js.tree.flatten(state)


def assert_as_recorded(title: str, fn: Callable[..., Any], inputs: np.ndarray) -> None:
    specs, outputs, state = run_filled(fn, jnp.asarray(inputs))
    wanted = LAYERS[title]
    trainable = [(name, list(spec.shape)) for name, spec in specs.items() if spec.trainable]
    assert trainable == list(wanted["variables"].items())
    assert list(specs) == [*wanted["variables"], *wanted["state"]]
    assert state.keys() == wanted["state"].keys()
    for name, value in state.items():
        np.testing.assert_allclose(value, np.array(wanted["state"][name]), rtol=1e-5, atol=1e-5)
    leaves = jax.tree.leaves(outputs)
    assert len(leaves) == len(wanted["outputs"])
    for found, value in zip(leaves, wanted["outputs"], strict=True):
        np.testing.assert_allclose(found, np.array(value), rtol=1e-5, atol=1e-5)


def by_title(cases: list[tf1_tables.Case]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=[case.title for case in cases])


@by_title(tf1_tables.LAYERS + tf1_tables.LAYER_NORMS)
def test_a_layer_computes_what_it_does_in_tf1(case: tf1_tables.Case) -> None:
    layer = getattr(js.layers, case.layer)
    assert_as_recorded(case.title, lambda x: layer(x, **case.options_with(jax.nn)), case.inputs)


SPATIAL = [
    case
    for case in tf1_tables.LAYERS
    if case.layer.startswith(("conv", "separable", "max_", "average_"))
    and "data_format" not in case.options
]


@by_title(SPATIAL)
def test_channels_first_is_the_transpose_of_channels_last(case: tf1_tables.Case) -> None:
    layer = getattr(js.layers, case.layer)

    def transposed(x: jax.Array) -> jax.Array:
        outputs = layer(
            jnp.moveaxis(x, -1, 1), data_format="channels_first", **case.options_with(jax.nn)
        )
        return jnp.moveaxis(outputs, 1, -1)

    assert_as_recorded(case.title, transposed, case.inputs)


CELLS = {"BasicLSTMCell": "basic_lstm_cell", "LSTMCell": "lstm_cell", "GRUCell": "gru_cell"}


@by_title(tf1_tables.RNNS)
def test_a_cell_computes_what_it_does_in_tf1(case: tf1_tables.Case) -> None:
    options = case.options_with(jax.nn)
    make = js.layers.gru if case.layer == "GRUCell" else js.layers.lstm
    loop = {name: options.pop(name) for name in tf1_tables.OF_THE_LOOP if name in options}

    def run(x: jax.Array) -> Any:
        return js.layers.dynamic_rnn(make(name=CELLS[case.layer], **options), x, **loop)

    assert_as_recorded(case.title, run, case.inputs)


def test_embedding_lookup_takes_the_rows_that_it_does_in_tf1() -> None:
    table = jnp.asarray(tf1_tables.fill("table", (5, 3)))
    wanted = recorded("layers.json")["embedding_lookup"]
    for ids, rows in zip(tf1_tables.LOOKUPS, wanted, strict=True):
        found = js.layers.embedding_lookup(table, jnp.asarray(ids))
        np.testing.assert_array_equal(found, np.array(rows, np.float32))


STATISTICS: dict[str, Any] = recorded("initializers.json")["statistics"]
UNBOUNDED = ("random_normal", "untruncated_normal", "orthogonal")


@pytest.mark.parametrize("shape", tf1_tables.SHAPES, ids=str)
@pytest.mark.parametrize(("name", "options"), tf1_tables.INITIALIZERS, ids=list(STATISTICS))
def test_an_initializer_has_the_distribution_that_it_has_in_tf1(
    name: str, options: dict[str, Any], shape: list[int]
) -> None:
    title = f"{name} {json.dumps(options)}"
    wanted = STATISTICS[title][str(shape)]
    initializer = getattr(js.initializers, name)(**options)
    count = max(100, 40000 // max(1, int(np.prod(shape))))
    keys = jax.random.split(jax.random.key(0), count)
    if "error" in wanted:
        with pytest.raises(ValueError, match="dimension"):
            initializer(keys[0], tuple(shape), jnp.float32)
        return
    draw = jax.jit(jax.vmap(lambda key: initializer(key, tuple(shape), jnp.float32)))
    found = tf1_tables.statistics(np.asarray(draw(keys)))
    spread = wanted["stddev"]
    assert found["mean"] == pytest.approx(wanted["mean"], abs=0.03 * spread)
    assert found["stddev"] == pytest.approx(spread, rel=0.03)
    within = slice(1, -1) if any(word in title for word in UNBOUNDED) else slice(None)
    np.testing.assert_allclose(
        found["quantiles"][within], wanted["quantiles"][within], atol=0.06 * spread + 1e-6
    )


@pytest.mark.parametrize("gain", [1.0, 2.0])
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (3, 3, 8, 16), (2, 2, 1, 3)], ids=str)
def test_an_orthogonal_matrix_is_one(shape: tuple[int, ...], gain: float) -> None:
    matrix = js.initializers.orthogonal(gain=gain)(jax.random.key(0), shape, jnp.float32)
    matrix = matrix.reshape(-1, shape[-1])
    short = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    np.testing.assert_allclose(short, gain**2 * np.eye(len(short)), atol=1e-4)


AVERAGES = recorded("averages.json")["averages"]


@pytest.mark.parametrize("index", range(len(tf1_tables.AVERAGES)))
def test_a_moving_average_moves_as_it_does_in_tf1(index: int) -> None:
    average = tf1_tables.AVERAGES[index]
    wanted = AVERAGES[index]

    def move(value: jax.Array) -> jax.Array:
        js.get_variable(
            "v", [2], initializer=js.initializers.constant(average.start), trainable=False
        )
        return js.assign_moving_average("v", value, average.decay, average.zero_debias)

    net = js.transform_with_state(move)
    values = tf1_tables.fill("values", (tf1_tables.STEPS, 2))
    params, state = net.init(0, values[0])
    apply = jax.jit(net.apply)
    for value, step in zip(values, wanted["steps"], strict=True):
        moved, state = apply(params, state, None, value)
        np.testing.assert_allclose(moved, np.array(step), rtol=1e-5)
        np.testing.assert_array_equal(state["v"], moved)
    beside = {name.replace("/", "_"): value for name, value in wanted["beside"].items()}
    assert sorted(beside) == sorted(name for name in state if name != "v")
    for name, value in beside.items():
        np.testing.assert_allclose(state[name], np.array(value), rtol=1e-5)


def test_every_case_is_recorded() -> None:
    cases = tf1_tables.LAYERS + tf1_tables.LAYER_NORMS + tf1_tables.RNNS
    assert list(LAYERS) == [case.title for case in cases]
    assert len(STATISTICS) == len(tf1_tables.INITIALIZERS)
    assert [average._asdict() for average in tf1_tables.AVERAGES] == [
        {field: row[field] for field in tf1_tables.Average._fields} for row in AVERAGES
    ]
