"""Records what TensorFlow 1 does, for ``tests/test_tf1_parity.py``.

Writes scopes.json, layers.json, initializers.json and averages.json beside this file. Needs
TensorFlow 2, whose ``tf.compat.v1`` is TensorFlow 1, and its Keras 2 (``pip install -e '.[tf]'``):

    python tests/data/record_tf1.py            # all of them, in three minutes
    python tests/data/record_tf1.py scopes.json
"""

from __future__ import annotations

import builtins
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # tf.compat.v1.layers is in Keras 2 only
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import tensorflow as tf
import tensorflow.compat.v1 as v1
import tf1_programs
import tf1_tables
from tensorflow.python.training import moving_averages

DATA = Path(__file__).parent


class Calls:
    """``tf.compat.v1``, and what the programs call by other names."""

    array = staticmethod(np.array)
    gru = v1.nn.rnn_cell.GRUCell
    lstm = v1.nn.rnn_cell.LSTMCell

    def dynamic_rnn(self, cell: Any, inputs: Any, scope: str | None = None) -> Any:
        return v1.nn.dynamic_rnn(cell, inputs, dtype=tf.float32, scope=scope)

    def __getattr__(self, name: str) -> Any:
        return getattr(v1, name)


def run_program(program: tf1_programs.Program) -> list[str]:
    """The lines of one program, in a graph of its own."""
    made: list[tuple[str, Any]] = []

    def creator(next_creator: Callable[..., Any], **request: Any) -> Any:
        variable = next_creator(**request)
        made.append((request["name"], variable))
        return variable

    namespace = tf1_programs.Namespace(Calls())
    with tf.Graph().as_default(), v1.variable_creator_scope(creator):
        program(namespace)
        values = [initial_values([variable for _, variable in made]) for _ in range(2)]
        lines = [next(filter(is_builtin, spellings)) for spellings in namespace.lines]
        for (name, variable), *pair in zip(made, *values, strict=True):
            constraint = variable.constraint
            line = tf1_programs.describe(
                name,
                variable.dtype.base_dtype.name,
                variable.shape.as_list(),
                trainable=variable.trainable,
                values=tuple(pair),
                regularizer=" and ".join(
                    tagged.tag for tagged in namespace.tagged if variable.op.name in tagged.names
                ),
                constraint=constraint and constraint.tag,
            )
            lines.append(line)
    return lines


def initial_values(variables: list[Any]) -> list[Any]:
    """Values of the variables in a new session."""
    if not variables:
        return []
    with v1.Session() as session:
        session.run([variable.initializer for variable in variables])
        return session.run(variables)


def is_builtin(spelling: str) -> bool:
    """Whether a line is no error, or spells it as one of Python's own."""
    word, _, rest = spelling.partition(" ")
    return word != "error" or hasattr(builtins, rest.partition(":")[0])


def record_scopes() -> Any:
    programs = dict(tf1_programs.SAME)
    for changed in (tf1_programs.CHANGED, tf1_programs.CHANGED_IN_APPLY):
        programs |= {name: entry.program for name, entry in changed.items()}
    return {"programs": {name: run_program(program) for name, program in programs.items()}}


def run_layer(case: tf1_tables.Case) -> Any:
    """What one layer makes and computes, with the values of ``fill`` for its variables."""
    layer, options = getattr(v1.layers, case.layer), case.options_with(v1.nn)
    return run_filled(lambda inputs: layer(inputs, **options), case.inputs)


def run_layer_norm(case: tf1_tables.Case) -> Any:
    """The same of ``tf.contrib.layers.layer_norm``, whose formula this is."""

    def build(
        inputs: Any,
        center: bool = True,
        scale: bool = True,
        begin_norm_axis: int = 1,
        begin_params_axis: int = -1,
    ) -> Any:
        shape = inputs.shape.as_list()
        axes = list(range(len(shape)))[begin_norm_axis:]
        params = shape[begin_params_axis:]
        with v1.variable_scope(None, "LayerNorm"):
            beta = v1.get_variable("beta", params) if center else None
            gamma = v1.get_variable("gamma", params) if scale else None
        mean, variance = tf.nn.moments(inputs, axes, keepdims=True)
        return tf.nn.batch_normalization(inputs, mean, variance, beta, gamma, 1e-12)

    return run_filled(lambda inputs: build(inputs, **case.options), case.inputs)


def run_rnn(case: tf1_tables.Case) -> Any:
    """The same of a cell under ``dynamic_rnn``: its outputs, then its state."""
    options = case.options_with(v1.nn)
    make = getattr(v1.nn.rnn_cell, case.layer)
    loop = {name: options.pop(name) for name in tf1_tables.OF_THE_LOOP if name in options}

    def build(inputs: Any) -> Any:
        cell = make(options.pop("units"), **options)
        outputs, state = v1.nn.dynamic_rnn(cell, inputs, dtype=tf.float32, **loop)
        return [outputs, *tf.nest.flatten(state)]

    return run_filled(build, case.inputs)


def run_filled(build: Callable[[Any], Any], inputs: np.ndarray) -> Any:
    with tf.Graph().as_default(), v1.Session() as session:
        outputs = build(tf.constant(inputs))
        variables = v1.global_variables()
        session.run(v1.global_variables_initializer())
        for variable in variables:
            shape = tuple(variable.shape.as_list())
            variable.load(tf1_tables.fill(variable.op.name, shape), session)
        # The outputs first: they must not see the updates.
        found = session.run(outputs)
        session.run(v1.get_collection(v1.GraphKeys.UPDATE_OPS))
        state = [variable for variable in variables if not variable.trainable]
        return {
            "variables": {v.op.name: v.shape.as_list() for v in variables if v.trainable},
            "state": {v.op.name: digits(v.eval(session)) for v in state},
            "outputs": [digits(array) for array in (found if isinstance(found, list) else [found])],
        }


def digits(array: np.ndarray) -> Any:
    """Nested lists of a float32 array, each number in the fewest digits that give it again."""
    shortest = [float(str(number)) for number in array.reshape(-1)]
    return np.array(shortest).reshape(array.shape).tolist()


def record_layers() -> Any:
    results = {case.title: run_layer(case) for case in tf1_tables.LAYERS}
    results |= {case.title: run_layer_norm(case) for case in tf1_tables.LAYER_NORMS}
    results |= {case.title: run_rnn(case) for case in tf1_tables.RNNS}
    table = tf1_tables.fill("table", (5, 3))
    with tf.Graph().as_default(), v1.Session() as session:
        lookups = [v1.nn.embedding_lookup(table, ids) for ids in tf1_tables.LOOKUPS]
        found = [digits(rows) for rows in session.run(lookups)]
    return {"layers": results, "embedding_lookup": found}


def record_initializers() -> Any:
    results: dict[str, Any] = {}
    for name, options in tf1_tables.INITIALIZERS:
        entry = results[f"{name} {json.dumps(options)}"] = {}
        for shape in tf1_tables.SHAPES:
            entry[str(shape)] = run_initializer(name, options, shape)
    return {"statistics": results}


def run_initializer(name: str, options: Any, shape: list[int]) -> Any:
    """Statistics over many draws, or the kind of error that a shape gives."""
    make = getattr(v1.initializers, name)
    with tf.Graph().as_default(), v1.Session() as session:
        v1.set_random_seed(0)
        try:
            draws = [make(**options)(shape, dtype=tf.float32) for _ in range(100)]
        except ValueError as error:
            return {"error": type(error).__name__}
        repeats = max(1, 40000 // (100 * max(1, int(np.prod(shape)))))
        values = [session.run(draws) for _ in range(repeats)]
        rounded = tf1_tables.statistics(np.array(values))
        return {key: np.round(value, 5).tolist() for key, value in rounded.items()}


def record_averages() -> Any:
    values = tf1_tables.fill("values", (tf1_tables.STEPS, 2))
    return {"averages": [run_average(average, values) for average in tf1_tables.AVERAGES]}


def run_average(average: tf1_tables.Average, values: np.ndarray) -> Any:
    """The variable after each step, and the variables that the call made beside it."""
    with tf.Graph().as_default(), v1.Session() as session:
        value = v1.placeholder(tf.float32, [2])
        variable = v1.get_variable(
            "v", [2], initializer=v1.constant_initializer(average.start), trainable=False
        )
        move = moving_averages.assign_moving_average(
            variable, value, average.decay, zero_debias=average.zero_debias
        )
        session.run(v1.global_variables_initializer())
        steps = [digits(session.run(move, {value: row})) for row in values]
        beside = [v for v in v1.global_variables() if v is not variable]
        return {
            **average._asdict(),
            "steps": steps,
            "beside": {v.op.name: v.eval(session).tolist() for v in beside},
        }


def write(name: str, content: Any) -> None:
    """Writes a file of JSON with the version of TensorFlow."""
    (DATA / name).write_text(to_json({"tensorflow": tf.__version__, **content}) + "\n")


def to_json(value: Any, indent: str = "\n") -> str:
    """JSON with each item of a mapping, and each text of a list, on a line of its own."""
    inner = indent + " "
    if isinstance(value, dict):
        items = [f"{json.dumps(key)}: {to_json(item, inner)}" for key, item in value.items()]
        return "{" + inner + ("," + inner).join(items) + indent + "}" if items else "{}"
    if isinstance(value, list) and value and isinstance(value[0], str | dict):
        items = [to_json(item, inner) for item in value]
        return "[" + inner + ("," + inner).join(items) + indent + "]"
    return json.dumps(value, ensure_ascii=False)


FILES = {
    "scopes.json": record_scopes,
    "layers.json": record_layers,
    "initializers.json": record_initializers,
    "averages.json": record_averages,
}


def main() -> None:
    v1.disable_v2_behavior()
    for name in sys.argv[1:] or FILES:
        write(name, FILES[name]())


if __name__ == "__main__":
    main()
