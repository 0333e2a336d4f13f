"""summary: what it says of a network, that it computes nothing, and how it is drawn."""

from __future__ import annotations

import builtins
import html.parser
import io
import itertools
import json
import pickle
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import PROGRAMS, WRAPPINGS, X, block, wrapped
from child import PATIENCE, output_of
from jax.sharding import PartitionSpec as P

import jscope as js
from jscope._outline import cell_width
from jscope.errors import ArgumentError, FileError, VariableMismatchError


def shape(*sizes: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, dtype)


def tied(ids: jax.Array) -> jax.Array:
    """A language model with a shared table, a block that is shared, and state."""
    with js.variable_scope("embed") as scope:
        x = js.get_variable("table", [20, 8])[ids]
    for number in range(2):
        with js.variable_scope("block", reuse=number > 0):
            x = js.layers.dense(
                x, 8, jnp.tanh, name="up", kernel_regularizer=js.regularizers.l2(0.01)
            )
    with js.variable_scope("head"):
        js.get_variable("steps", initializer=0, trainable=False)
        with js.variable_scope(scope, reuse=True):
            table = js.get_variable("table")
        return x @ table.T


TIED = js.transform_with_state(tied)
IDS = shape(1, 5, dtype=jnp.int32)


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda width: monkeypatch.setenv("COLUMNS", str(width))


def without_lines(text: str) -> str:
    return re.sub(r"test_summary\.py:\d+", "FILE:N", text)


# What is said


def test_a_summary_as_text(wide: Callable[[int], None]) -> None:
    wide(130)
    assert without_lines(str(js.summary(TIED, IDS))) == (
        "tied: int32[1,5] -> float32[1,5,20]\n"
        "name        type           size  bytes  FLOPs  accessed  about                                      made at\n"
        "embed/                      160  640 B            950 B  int32[1,5] -> float32[1,5,8]\n"
        "  table     float32[20,8]   160  640 B                   shared by head, glorot_uniform             FILE:N\n"
        "block/                       72  288 B  1.3 k    2.5 kB  2 calls, float32[1,5,8] -> float32[1,5,8]\n"
        "  up/                        72  288 B  1.3 k    2.5 kB  2 calls, float32[1,5,8] -> float32[1,5,8]\n"
        "    kernel  float32[8,8]     64  256 B                   used again, glorot_uniform, l2(0.01)       FILE:N\n"
        "    bias    float32[8]        8   32 B                   used again, zeros                          FILE:N\n"
        "head/                         1    4 B  1.6 k    2.5 kB  float32[1,5,8] -> float32[1,5,20]\n"
        "  steps     int32[]           1    4 B                   state, constant                            FILE:N\n"
        "4 variables, 232 parameters and 1 of state, 932 B: float32 928 B, int32 4 B; 2.9 k FLOPs\n"
        "shared: embed/table by head (FILE:N)"
    )


def test_a_narrow_terminal_gets_fewer_columns_and_shorter_ones(wide: Callable[[int], None]) -> None:
    wide(80)
    lines = str(js.summary(TIED, IDS)).splitlines()
    assert lines[1] == "name        type           size  bytes  FLOPs  about"
    assert lines[6] == (
        "    kernel  float32[8,8]     64  256 B         used again, glorot_uniform, l2..."
    )
    wide(40)
    assert without_lines(str(js.summary(TIED, IDS))).splitlines() == [
        "tied: int32[1,5] -> float32[1,5,20]",
        "name        type           size  bytes",
        "embed/                      160  640 B",
        "  table     float32[20,8]   160  640 B",
        "block/                       72  288 B",
        "  up/                        72  288 B",
        "    kernel  float32[8,8]     64  256 B",
        "    bias    float32[8]        8   32 B",
        "head/                         1    4 B",
        "  steps     int32[]           1    4 B",
        "4 variables, 232 parameters and 1 of",
        "state, 932 B: float32 928 B, int32 4 B;",
        "2.9 k FLOPs",
        "shared: embed/table by head",
        "(FILE:N)",
    ]
    for width in range(12, 130, 7):
        wide(width)
        assert max(map(len, str(js.summary(TIED, IDS)).splitlines())) <= width


def test_depth_folds_scopes_into_their_numbers(wide: Callable[[int], None]) -> None:
    wide(90)
    found = js.summary(TIED, IDS, depth=1)
    assert without_lines(str(found)) == (
        "tied: int32[1,5] -> float32[1,5,20]\n"
        "name    size  bytes  FLOPs  accessed  about\n"
        "embed/   160  640 B            950 B  int32[1,5] -> float32[1,5,8]\n"
        "block/    72  288 B  1.3 k    2.5 kB  2 calls, float32[1,5,8] -> float32[1,5,8]\n"
        "head/      1    4 B  1.6 k    2.5 kB  float32[1,5,8] -> float32[1,5,20]\n"
        "4 variables, 232 parameters and 1 of state, 932 B: float32 928 B, int32 4 B; 2.9 k FLOPs\n"
        "shared: embed/table by head (FILE:N)"
    )
    assert len(found.rows) == 4  # for programs all are there


def test_symbolic_sizes_are_shown_as_expressions(
    tmp_path: Path, wide: Callable[[int], None]
) -> None:
    wide(120)
    (a,) = jax.export.symbolic_shape("a")
    found = js.summary(js.transform(lambda x: js.layers.dense(x, 3, use_bias=False)), shape(a, 4))
    assert without_lines(str(found)).splitlines()[1:] == [
        "name      type          size  bytes  FLOPs     accessed  about                         made at",
        "dense/                    12   48 B   24*a  28*a + 48 B  float32[a,4] -> float32[a,3]",
        "  kernel  float32[4,3]    12   48 B                      glorot_uniform                FILE:N",
        "1 variable, 12 parameters, 48 B: float32 48 B; 24*a FLOPs",
    ]
    for text in (page(tmp_path, found), found._repr_html_()):
        assert "24*a" in parsed(text).said
    assert "24#42;a FLOPs" in found.to_mermaid()
    assert "24*a FLOPs" in found.to_dot()


def test_wide_characters_take_two_cells(wide: Callable[[int], None]) -> None:
    def named(key: jax.Array, shape: Any, dtype: Any) -> jax.Array:
        return jnp.zeros(shape, dtype)

    def program(x: jax.Array) -> jax.Array:
        return x * js.get_variable("w", [3], initializer=named)

    named.__qualname__, program.__name__ = "初期化" * 10, "模型" * 14
    found = js.summary(js.transform(program), shape(3))
    wide(60)
    assert str(found).splitlines() == [
        "模型" * 14 + ":",
        "float32[3] -> float32[3]",
        "name  type        size  bytes  about",
        "w     float32[3]     3   12 B  初期化初期化初期化初期化初...",
        "1 variable, 3 parameters, 12 B: float32 12 B; 0 FLOPs",
    ]
    for width in range(12, 130, 7):
        wide(width)
        assert max(map(cell_width, str(found).splitlines())) <= width


@pytest.mark.parametrize(
    ("text", "cells"), [("ab", 2), ("模型", 4), ("e\u0301", 1), ("ｱé", 2), ("\uff21", 2), ("", 0)]
)
def test_how_many_cells_of_a_terminal_a_text_takes(text: str, cells: int) -> None:
    assert cell_width(text) == cells


def test_rich_shows_the_same_in_colours() -> None:
    console = pytest.importorskip("rich.console")

    def shown(colors: str | None) -> str:
        file = io.StringIO()
        console.Console(file=file, width=100, color_system=colors, force_terminal=True).print(found)
        return file.getvalue()

    found = js.summary(TIED, IDS)
    plain = shown(None)
    assert plain.splitlines()[1] == "name        type           size  bytes  FLOPs  about"
    coloured = shown("standard")
    assert "\x1b[1;36mblock/\x1b[0m" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain


def test_a_table_needs_no_rich(
    monkeypatch: pytest.MonkeyPatch, wide: Callable[[int], None]
) -> None:
    wide(100)
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name.partition(".")[0] == "rich":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    assert str(js.summary(TIED, IDS)).startswith("tied: int32[1,5] -> float32[1,5,20]\nname ")


def test_rows_are_in_order_of_creation_and_say_what_specs_say() -> None:
    found, specs = js.summary(TIED, IDS), TIED.specs(IDS)
    assert [row.name for row in found.rows] == list(specs)
    for row in found.rows:
        spec = specs[row.name]
        assert (row.shape, row.dtype, row.trainable) == (spec.shape, spec.dtype, spec.trainable)
        assert [str(site) for site in row.sites] == [str(site) for site in spec.sites]


def test_scopes_are_in_order_of_creation_and_count_all_below_them() -> None:
    found = js.summary(TIED, IDS)
    assert [(x.name, x.size, x.nbytes) for x in found.scopes] == [
        ("", 233, 932),
        ("embed", 160, 640),
        ("block", 72, 288),
        ("block/up", 72, 288),
        ("head", 1, 4),
    ]


def test_what_is_shared_says_who_asks_again_and_from_where() -> None:
    rows = {row.name: row for row in js.summary(TIED, IDS).rows}
    (share,) = rows["embed/table"].shared_by
    assert share.scope == "head"
    assert [site.function for site in share.sites] == ["tied"]
    assert share.sites != rows["embed/table"].sites
    (again,) = rows["block/up/kernel"].shared_by
    assert again.scope == "block/up"
    assert rows["head/steps"].shared_by == ()


def test_a_variable_shared_by_a_getter_is_shared() -> None:
    def other(getter: Callable[..., Any], name: str, *args: Any, **kwargs: Any) -> Any:
        return getter("a/w", *args, **{**kwargs, "reuse": js.AUTO_REUSE})

    def fn() -> Any:
        with js.variable_scope("a"):
            w = js.get_variable("w", [2])
        with js.variable_scope("b", custom_getter=other):
            return w + js.get_variable("w", [2])

    (row,) = js.summary(js.transform(fn)).rows
    assert [share.scope for share in row.shared_by] == ["b"]


def rerun(body: Callable[[jax.Array], jax.Array]) -> dict[str, Callable[[jax.Array], Any]]:
    """Transforms of one function of [4, 8], which some of them trace several times."""
    return {
        "jit": js.jit(body),
        "checkpoint": js.checkpoint(body),
        "scan": lambda x: js.scan(lambda c, _: (body(c), None), x, None, length=3)[0],
        "raw scan": lambda x: jax.lax.scan(lambda c, _: (body(c) * 1.0, None), x, None, length=3)[
            0
        ],
        "while": lambda x: js.while_loop(lambda c: c.sum() > 0, body, x),
        "layer_stack": js.layer_stack(3)(body),
        "vmap": lambda x: js.vmap(lambda row: body(row[None])[0])(x),
        "map": lambda x: js.map(lambda row: body(row[None])[0], x),
        "grad": lambda x: js.grad(lambda y: body(y).sum())(x),
    }


NAMES = list(rerun(lambda x: x))
TIMES = {"scan": 3, "raw scan": 3, "layer_stack": 3, "grad": 2}


@pytest.mark.parametrize("name", NAMES)
def test_what_jax_runs_again_is_not_shared_and_what_it_costs_is_in_its_scope(name: str) -> None:
    def body(x: jax.Array) -> jax.Array:
        with js.variable_scope("body"):
            return x @ js.get_variable("w", [8, 8])

    def fn(x: jax.Array) -> Any:
        with js.variable_scope("net"):
            return rerun(body)[name](x)

    found = js.summary(js.transform(fn), shape(4, 8))
    assert [(row.name, row.shared_by) for row in found.rows] == [("net/body/w", ())]
    flops = 2 * 4 * 8 * 8 * TIMES.get(name, 1)
    assert {x.name: x.flops for x in found.scopes} == dict.fromkeys(["", "net", "net/body"], flops)


@pytest.mark.parametrize("name", ["jit", "checkpoint"])
def test_a_function_that_is_traced_once_is_seen_under_each_of_its_scopes(name: str) -> None:
    def fn(x: jax.Array) -> Any:
        dense = rerun(lambda x: js.layers.dense(x, 8, use_bias=False))[name]
        for scope in "ab":
            with js.variable_scope(scope):
                x = dense(x)
        return x

    found = js.summary(js.transform(fn), shape(4, 8))
    assert [(x.name, x.flops) for x in found.scopes[1:]] == [
        ("a", 512),
        ("a/dense", 512),
        ("b", 512),
        ("b/dense", 512),
    ]


def test_inputs_and_outputs_are_those_of_the_first_call() -> None:
    def fn(x: jax.Array, mask: jax.Array) -> Any:
        scale = jnp.ones([1, 3])
        with js.variable_scope("unused"):
            js.get_variable("w", [2])
        with js.variable_scope("body"):
            for size in (2, 5):
                with js.variable_scope("pool", reuse=js.AUTO_REUSE):
                    x = x[:, :size] * scale[:, :1] * js.get_variable("w", [1, 1])
            x = jnp.where(mask[:, None], x, -x)
            aside = js.record("output", x.sum(0))
        return x, aside, "text"

    found = js.summary(js.transform(fn), shape(4, 3), shape(4, dtype=jnp.bool_))
    shapes = {
        x.name: ([str(y.shape) for y in x.inputs], [str(y.shape) for y in x.outputs])
        for x in found.scopes
    }
    assert shapes == {
        "": (["(4, 3)", "(4,)"], ["(4, 2)", "(2,)"]),
        "unused": ([], []),
        "body": (["(4, 3)", "(4,)"], ["(2,)"]),  # what it recorded
        "body/pool": (["(4, 3)"], ["(4, 2)"]),
    }


def test_outputs_are_what_was_recorded_though_less_is_used_outside() -> None:
    def fn(x: jax.Array) -> jax.Array:
        with js.variable_scope("body"):
            return js.record("output", 2 * x).sum()

    assert js.summary(js.transform(fn), shape(2, 3)).scopes[1].outputs == (shape(2, 3),)
    mapped = js.summary(js.transform(lambda x: jax.vmap(fn)(x)), shape(2, 3)).scopes[1]
    assert mapped.outputs == (shape(3),)  # as the function saw it: no sum of it leaves


def test_scopes_without_operations_or_data_have_inputs_too() -> None:
    def fn(x: jax.Array) -> jax.Array:
        x = js.layers.dropout(x, 0.5, training=False)
        return x + js.layers.embedding(jnp.arange(3), 5, 4, name="places")[None]

    found = {scope.name: scope for scope in js.summary(js.transform(fn), shape(2, 3, 4)).scopes}
    assert found["dropout"].inputs == found["dropout"].outputs == (shape(2, 3, 4),)
    assert found["places"].inputs == (shape(3, dtype=jnp.int32),)
    assert found["places"].outputs == (shape(3, 4),)


def test_outputs_of_all_are_the_arrays_that_the_function_returns() -> None:
    net = js.transform(lambda x: (x, x, {"a": jnp.zeros(3), "b": "text"}, jnp.float32(0)))
    assert js.summary(net, shape(2)).scopes[0].outputs == (shape(2), shape(2), shape(3), shape())


@pytest.mark.parametrize("getter", ["weight_normalization", "low_rank", "spectral_normalization"])
def test_variables_that_a_getter_makes_are_shared_too(getter: str) -> None:
    made = js.getters.low_rank(1) if getter == "low_rank" else getattr(js.getters, getter)()

    def fn(x: jax.Array) -> jax.Array:
        with js.variable_scope("a", custom_getter=made) as scope:
            x = js.layers.dense(x, 4, name="d")
        with js.variable_scope("other"), js.variable_scope(scope, reuse=True):
            return js.layers.dense(x, 4, name="d")

    rows = js.summary(js.transform_with_state(fn), shape(2, 4)).rows
    assert len(rows) > 2
    assert {row.name: [share.scope for share in row.shared_by] for row in rows} == {
        row.name: ["other"] for row in rows
    }


def test_calls_are_counted_with_the_scans_around_them() -> None:
    def block(x: jax.Array) -> jax.Array:
        with js.variable_scope("block"):  # whose own operations are those of the scope in it
            return js.layers.dense(x, 3)

    def fn(x: jax.Array) -> jax.Array:
        for reuse in (False, True):  # the second time nothing is computed there
            with js.variable_scope("looked_up", reuse=reuse):
                js.get_variable("w", [2])
        shared = js.make_template("shared", js.layers.rms_norm)
        x = shared(shared(x))
        with js.variable_scope("stack"):
            x = js.layer_stack(4)(block)(x)
        with js.variable_scope("loop"):
            step = lambda carry, _: (js.layer_stack(2)(block)(2 * carry), None)  # noqa: E731
            return js.scan(step, x, None, length=5)[0]

    found = js.summary(js.transform(fn), shape(2, 3))
    calls = {scope.name: scope.calls for scope in found.scopes}
    assert calls == {
        "": 1,
        "looked_up": 1,
        "shared": 2,
        "shared/rms_norm": 2,
        "stack": 1,
        "stack/block": 4,
        "stack/block/dense": 4,
        "loop": 1,
        "loop/block": 10,
        "loop/block/dense": 10,
    }
    flops = {scope.name: scope.flops for scope in found.scopes}
    assert flops["loop"] == 10 * 2 * 2 * 3 * 3 == flops["loop/block/dense"]


def test_scopes_tell_what_is_state_and_what_a_device_holds() -> None:
    norm = js.transform_with_state(lambda x: js.layers.batch_normalization(x, training=True))
    scope = js.summary(norm, shape(2, 3)).scopes[1]
    assert (scope.size, scope.state_size, scope.device_nbytes) == (12, 6, None)
    mesh = jax.make_mesh((1,), ("data",), (jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh):
        scope = js.summary(norm, shape(2, 3)).scopes[1]
    assert scope.device_nbytes == scope.nbytes == 48


@pytest.mark.parametrize(
    ("initializer", "name"),
    [
        (None, "glorot_uniform"),
        (js.initializers.zeros, "zeros"),
        (js.initializers.constant(3.0), "constant(3)"),
        (jax.nn.initializers.normal(0.02), "normal"),
        (jnp.ones([2, 2]), "constant"),
        (lambda key, shape, dtype: jnp.zeros(shape, dtype), "lambda"),
        (shape, "shape"),
    ],
    ids=lambda value: value if isinstance(value, str) else "of",
)
def test_an_initializer_has_a_short_name(initializer: Any, name: str) -> None:
    def given(key: jax.Array, sizes: Any, dtype: Any) -> jax.Array:
        return jnp.zeros(sizes, dtype)

    if initializer is shape:
        initializer, name = given, "given"
    size = None if isinstance(initializer, jax.Array) else [2, 2]
    net = js.transform(lambda: js.get_variable("w", size, initializer=initializer))
    assert js.summary(net).rows[0].initializer == name


def test_an_initial_value_that_is_computed_says_so() -> None:
    net = js.transform(lambda x: js.get_variable("w", initializer=x.sum()))
    assert js.summary(net, shape(2)).rows[0].initializer == "computed"


# Meshes


def dense(x: jax.Array) -> jax.Array:
    return js.layers.dense(x, 8)


RULES = js.sharding_rules({"**/kernel": P(None, "model")}, default=P())
KINDS = jax.sharding.AxisType
MESH = jax.sharding.AbstractMesh((4,), ("model",), axis_types=(KINDS.Auto,))


@pytest.mark.parametrize("kind", [KINDS.Auto, KINDS.Explicit])
def test_a_partition_is_said_and_under_a_mesh_the_bytes_of_a_device(kind: Any) -> None:
    net = js.sharded(js.transform(dense), RULES)
    assert [(x.partition, x.device_nbytes) for x in js.summary(net, shape(2, 3)).rows] == [
        (P(None, "model"), None),
        (P(), None),
    ]
    with jax.sharding.use_abstract_mesh(MESH.update(axis_types=(kind,))):
        found = js.summary(js.without_apply_rng(net), shape(2, 3))
    assert [x.device_nbytes for x in found.rows] == [3 * 8 * 4 // 4, 8 * 4]
    assert found.total.device_nbytes == 56
    assert "P(None, 'model'), 24 B a device" in found._repr_html_().replace("&#x27;", "'")
    assert str(found).endswith("128 B, 56 B a device: float32 128 B; 96 FLOPs")


def test_what_waits_for_a_mesh_is_told_as_it_was_given() -> None:
    rules = js.sharding_rules({}, default=js.fsdp("model", 0))
    found = js.summary(js.sharded(js.transform(dense), rules), shape(2, 3))
    assert [x.partition for x in found.rows] == ["fsdp('model', min_bytes=0)"] * 2
    assert pickle.loads(pickle.dumps(found)) == found


def test_the_mesh_of_a_network_is_known() -> None:
    mesh = jax.make_mesh((1,), ("model",))
    found = js.summary(js.sharded(js.transform(dense), RULES, mesh), shape(2, 3))
    assert found.total.device_nbytes == 128


# Laws

NETS = {
    "dense": (js.transform(dense), [shape(2, 3)]),
    "tied": (TIED, [IDS]),
    "none": (js.transform(lambda: None), []),
    "stack": (js.transform(lambda x: js.layer_stack(2)(dense)(x)), [shape(2, 8)]),
    "without rng": (js.without_apply_rng(TIED), [IDS]),
    "sharded": (js.sharded(js.transform(dense), RULES), [shape(2, 3)]),
}


@pytest.mark.parametrize("name", NETS)
def test_the_rows_sum_to_what_the_trees_hold(name: str) -> None:
    net, args = NETS[name]
    found, specs = js.summary(net, *args), net.specs(*args)
    params, state = specs.params(), specs.state()
    assert sum(x.size for x in found.rows if x.trainable) == js.tree.count(params)
    assert found.total.size == js.tree.count(params)
    assert found.total.state_size == js.tree.count(state)
    assert found.total.nbytes == js.tree.nbytes(params) + js.tree.nbytes(state)
    assert found.total.nbytes == sum(x.nbytes for x in found.rows) == found.scopes[0].nbytes
    assert found.total.nbytes == sum(found.total.dtypes.values())


@pytest.mark.parametrize("name", NETS)
def test_a_summary_pickles(name: str) -> None:
    net, args = NETS[name]
    found = js.summary(net, *args)
    again = pickle.loads(pickle.dumps(found))
    assert again == found
    assert str(again) == str(found)


@pytest.mark.parametrize("transform", WRAPPINGS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_who_shares_what_does_not_depend_on_how_jax_runs_a_block(
    program: str, transform: str
) -> None:
    def said(inner: Any) -> list[tuple[str, list[str]]]:
        found = js.summary(js.transform(PROGRAMS[program](inner)), X)
        return [(row.name, [share.scope for share in row.shared_by]) for row in found.rows]

    assert said(wrapped(transform, "module-level function")) == said(block)


def test_the_flops_of_a_dense_stack_are_those_of_the_formula() -> None:
    units = [16, 32, 8, 1]

    def mlp(x: jax.Array) -> jax.Array:
        for size in units[1:]:
            x = js.layers.dense(x, size, jax.nn.relu)
        return x

    found = js.summary(js.transform(mlp), shape(5, 16))
    wanted = [2 * 5 * a * b for a, b in itertools.pairwise(units)]
    assert [x.flops for x in found.scopes[1:]] == wanted
    assert found.total.flops == found.scopes[0].flops == sum(wanted)


NUMBERS = ("NHWC", "HWIO", "NHWC")


def conv(x: jax.Array, kernel: jax.Array, **options: Any) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (2, 1), "VALID", dimension_numbers=NUMBERS, **options
    )


PRODUCTS: dict[str, tuple[Callable[..., jax.Array], list[jax.ShapeDtypeStruct]]] = {
    "matmul": (jnp.matmul, [shape(3, 4), shape(4, 5)]),
    "root": (
        lambda x: jax.lax.custom_root(lambda y: y @ x, x, lambda f, y: f(y) @ y, lambda f, y: y),
        [shape(4, 4)],
    ),
    "batched": (lambda x, y: jnp.einsum("bij,bjk->bik", x, y), [shape(2, 3, 4), shape(2, 4, 5)]),
    "conv": (conv, [shape(2, 9, 9, 4), shape(3, 3, 4, 8)]),
    "grouped": (
        lambda x, k: conv(x, k, feature_group_count=2),
        [shape(2, 9, 9, 4), shape(3, 3, 2, 8)],
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_flops_of_products_are_those_that_xla_says(name: str) -> None:
    fn, args = PRODUCTS[name]
    analysis: Any = jax.jit(fn).lower(*args).cost_analysis()
    found = js.summary(js.transform(fn), *args).total
    assert found.flops == analysis["flops"]
    assert found.accessed == analysis["bytes accessed"]


def test_each_row_of_a_ragged_product_counts_for_one_group() -> None:
    rows = lambda x: jax.lax.ragged_dot(x, jnp.ones([2, 3, 4]), jnp.array([2, 3]))  # noqa: E731
    numbers = jax.lax.RaggedDotDimensionNumbers((([0], [0]), ([], [])), [0], [])
    columns = lambda x: jax.lax.ragged_dot_general(  # noqa: E731
        x, jnp.ones([5, 4]), jnp.array([2, 3]), numbers
    )
    for fn in (rows, columns):
        assert js.summary(js.transform(fn), shape(5, 3)).total.flops == 2 * 5 * 3 * 4


def test_of_a_linear_solve_only_the_solution_counts() -> None:
    def solve(matvec: Any, b: jax.Array) -> jax.Array:
        with js.variable_scope("solution"):
            return js.get_variable("inverse", [4, 4]) @ b

    def fn(a: jax.Array, b: jax.Array) -> jax.Array:
        return jax.lax.custom_linear_solve(lambda x: a @ x, b, solve)

    found = js.summary(js.transform(fn), shape(4, 4), shape(4, 3)).scopes[1]
    assert found.flops == 2 * 4 * 4 * 3
    assert found.accessed == 4 * (4 * 4 + 4 * 3 + 4 * 3)
    assert [x.shape for x in (*found.inputs, *found.outputs)] == [(4, 3), (4, 3)]
    assert js.summary(js.transform(jnp.linalg.solve), shape(8, 8), shape(8, 2)).total.flops == 0


OF_ELEMENTS: dict[str, tuple[Callable[[jax.Array], jax.Array], int]] = {
    "add": (lambda x: x.at[1].add(x[0]), 2 * 100),
    "max": (lambda x: x.at[1].max(x[0]), 2 * 100),
    "apply": (lambda x: x.at[jnp.array([1])].apply(jnp.sin), 2 * 100),
    "reduce": (lambda x: jax.lax.reduce(x, jnp.float32(0), lambda a, b: a + 2 * b, (0,)), 100),
    "reduce_window": (
        lambda x: jax.lax.reduce_window(
            x, jnp.float32(0), lambda a, b: a + 2 * b, (3,), (1,), "SAME"
        ),
        2 * 100,
    ),
}


@pytest.mark.parametrize("name", OF_ELEMENTS)
def test_what_is_done_with_each_element_accesses_whole_arrays(name: str) -> None:
    fn, count = OF_ELEMENTS[name]
    assert js.summary(js.transform(fn), shape(100)).total.accessed >= 4 * count


def test_what_shards_compute_counts_for_all_of_them() -> None:
    def fn(x: jax.Array) -> jax.Array:
        w = js.get_variable("w", [4, 5])
        with js.variable_scope("shards"):
            return jax.shard_map(
                jnp.matmul, mesh=MESH, in_specs=(P("model"), P()), out_specs=P("model")
            )(x, w)

    assert js.summary(js.transform(fn), shape(8, 4)).scopes[1].flops == 2 * 8 * 4 * 5


def test_all_branches_count() -> None:
    def fn(x: jax.Array) -> Any:
        return js.cond(
            x.sum() > 0,
            lambda x: js.layers.dense(x, 8, name="a"),
            lambda x: js.layers.dense(js.layers.dense(x, 4, name="b"), 8, name="c"),
            x,
        )

    found = js.summary(js.transform(fn), shape(2, 8))
    assert {x.name: x.flops for x in found.scopes} == {"": 512, "a": 256, "b": 128, "c": 128}


def test_nothing_is_computed_and_the_function_runs_once() -> None:
    calls: list[tuple[Any, ...]] = []

    def bert(ids: jax.Array) -> jax.Array:
        calls.append(ids.shape)
        x = js.layers.embedding(ids, 30522, 1024, name="word")
        for number in range(24):
            with js.variable_scope(f"layer_{number}"):
                x = x + js.layers.multi_head_attention(x, num_heads=16, name="attention")
                hidden = js.layers.dense(x, 4096, jax.nn.gelu, name="up")
                x = js.layers.layer_norm(
                    x + js.layers.dense(hidden, 1024, name="down"), begin_norm_axis=-1
                )
        return x

    before = len(jax.live_arrays())
    found = js.summary(js.transform(bert), shape(8, 512, dtype=jnp.int32))
    assert len(calls) == 1
    assert len(jax.live_arrays()) == before
    assert found.total.size > 330_000_000
    tokens, width = 8 * 512, 1024
    weights = 2 * tokens * (4 * width**2 + 8 * width**2)
    assert found.total.flops == 24 * (weights + 2 * 2 * tokens * 512 * width)


def test_arrays_are_used_as_shapes_and_other_arguments_as_they_are() -> None:
    def fn(x: Any, units: int, *, name: str) -> Any:
        return js.layers.dense(x["a"], units, name=name)

    given = js.summary(js.transform(fn), {"a": np.ones([2, 3], np.float32)}, 4, name="one")
    shapes = js.summary(js.transform(fn), {"a": shape(2, 3)}, 4, name="one")
    assert given == shapes
    assert given.rows[0].name == "one/kernel"


def test_a_summary_leaves_traces_of_later_calls_alone() -> None:
    net = js.transform(lambda x: js.jit(dense)(x))
    x = jnp.ones([2, 3])
    params = net.init(0, x)
    js.summary(net, x)
    text = jax.jit(net.apply).lower(params, None, x).as_text(debug_info=True)
    assert "dense" in text
    assert "jscope_opening" not in text


def test_what_has_no_variables_has_no_table(wide: Callable[[int], None]) -> None:
    wide(100)
    net = js.transform(lambda: None)
    assert str(js.summary(net)) == "<lambda>\n0 variables, 0 parameters, 0 B; 0 FLOPs"


def test_outputs_under_vmap_are_of_all_instances() -> None:
    net = js.transform(lambda x: js.vmap(lambda row: js.layers.dense(row, 2))(x))
    found = js.summary(net, shape(5, 4, 3)).scopes[1]
    assert [x.shape for x in (*found.inputs, *found.outputs)] == [(5, 4, 3), (5, 4, 2)]


# Graphs


def test_a_flowchart_has_scopes_and_dotted_edges_of_what_is_shared() -> None:
    assert js.summary(TIED, IDS).to_mermaid() == (
        "flowchart TD\n"
        '  n0["tied<br/>233 elements, 2.9 k FLOPs"]\n'
        '  n1["embed<br/>160 elements"]\n'
        '  n2["block<br/>72 elements, 1.3 k FLOPs, 2 calls"]\n'
        '  n3["up<br/>72 elements, 1.3 k FLOPs, 2 calls"]\n'
        '  n4["head<br/>1 element, 1.6 k FLOPs"]\n'
        "  n0 --> n1\n"
        "  n0 --> n2\n"
        "  n2 --> n3\n"
        "  n0 --> n4\n"
        '  n4 -. "table" .-> n1\n'
    )


def test_a_digraph_is_cut_at_the_depth() -> None:
    assert js.summary(TIED, IDS, depth=1).to_dot() == (
        "digraph {\n"
        "  node [shape=box];\n"
        '  n0 [label="tied\\n233 elements, 2.9 k FLOPs"];\n'
        '  n1 [label="embed\\n160 elements"];\n'
        '  n2 [label="block\\n72 elements, 1.3 k FLOPs, 2 calls"];\n'
        '  n3 [label="head\\n1 element, 1.6 k FLOPs"];\n'
        "  n0 -> n1;\n"
        "  n0 -> n2;\n"
        "  n0 -> n3;\n"
        '  n3 -> n1 [style=dashed, constraint=false, label="table"];\n'
        "}\n"
    )


def test_graphs_quote_the_name_of_a_function() -> None:
    found = js.summary(js.transform(lambda: None))
    assert found.to_mermaid() == 'flowchart TD\n  n0["#60;lambda#62;<br/>0 elements"]\n'
    assert 'n0 [label="<lambda>\\n0 elements"];' in found.to_dot()


# HTML


class Parser(html.parser.HTMLParser):
    """Raises where elements do not nest, and collects what the page says and refers to."""

    VOID = ("meta", "input", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.said: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("href", "src", "data", "action"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            assert not name.startswith("on")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.said.append(data)


def parsed(text: str) -> Parser:
    parser = Parser()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    assert len(set(parser.ids)) == len(parser.ids)
    return parser


def page(tmp_path: Path, found: js.Summary) -> str:
    file = tmp_path / "model.html"
    found.save(file)
    return file.read_text(encoding="utf-8")


def test_the_page_is_one_file_that_asks_for_nothing(tmp_path: Path) -> None:
    text = page(tmp_path, js.summary(TIED, IDS))
    found = parsed(text)
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert "@import" not in text
    assert "link" not in found.tags
    assert {link[0] for link in found.links} == {"#"}
    assert {link[1:] for link in found.links} <= set(found.ids)


def test_the_page_tells_of_every_variable_its_site_and_who_shares_it(tmp_path: Path) -> None:
    said = " ".join(parsed(page(tmp_path, js.summary(TIED, IDS, depth=1))).said)
    for name in ("embed/table", "block/up/kernel", "block/up/bias", "head/steps"):
        assert name in said
    assert re.search(r"asked for again head : \S*test_summary.py:\d+ in tied", said)
    assert "l2(0.01)" in said
    assert "932 B" in said


def test_html_escapes_what_it_shows(tmp_path: Path) -> None:
    def fn(x: jax.Array) -> Any:
        return js.layers.dense(x, 2, name="a")

    fn.__name__ = "<script>alert('&')</script>"
    found = js.summary(js.transform(fn), shape(2, 3))
    for text in (page(tmp_path, found), found._repr_html_()):
        assert "<script>alert" not in text
        assert "<script>alert('&')</script>" in "".join(parsed(text).said)


def test_a_notebook_is_shown_a_tree_that_folds_by_itself() -> None:
    deep, shallow = (js.summary(TIED, IDS, depth=depth)._repr_html_() for depth in (None, 1))
    assert parsed(deep).tags.count("details") == 4 + 4  # scopes, and variables with more to say
    assert not {"script", "a"} & set(parsed(deep).tags)
    assert "asked for again" in parsed(deep).said
    assert parsed(shallow).tags.count("details") == 3


@pytest.mark.parametrize("kind", ["Params", "Specs"])
def test_trees_show_themselves_in_notebooks(kind: str) -> None:
    specs = TIED.specs(IDS)
    tree = specs if kind == "Specs" else specs.params()
    found = parsed(tree._repr_html_())
    said = "|".join(found.said)
    count, nbytes = ("4", "932 B") if kind == "Specs" else ("3", "928 B")
    assert f"{kind}: {count} arrays" in said
    assert nbytes in said
    about = "|glorot_uniform" * (kind == "Specs")
    assert f"kernel|float32[8,8]|256 B{about}" in said
    assert ("state, constant" in said) is (kind == "Specs")
    assert found.tags.count("details") == (4 if kind == "Specs" else 3)


def test_a_tree_of_other_leaves_is_shown_too() -> None:
    tree = js.Params({"a": {"<b>": True, "c": {}, "d": None, "e": jnp.ones(3)}, "f": {}})
    shown = "|".join(filter(str.strip, parsed(tree._repr_html_()).said))
    assert shown == (
        "Params: 1 array, 12 B|type|bytes|a/|12 B|<b>|bool|0 B|c/|0 B|d|NoneType|0 B|"
        "e|float32[3]|12 B|f/|0 B"
    )


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

DRIVER = """
const visible = () => [...document.querySelectorAll("[data-name]")]
  .filter((item) => item.checkVisibility({ contentVisibilityAuto: true }))
  .map((item) => item.dataset.name);
const search = document.getElementById("search"), sort = document.getElementById("sort");
const said = [];
search.value = "BIAS zeros"; search.dispatchEvent(new Event("input"));
said.push(visible(), document.getElementById("found").textContent);
search.value = ""; search.dispatchEvent(new Event("input"));
document.getElementById("fold").click(); said.push(visible());
sort.value = "size"; sort.dispatchEvent(new Event("change")); said.push(visible());
location.hash = document.querySelector("tbody a").hash;
addEventListener("hashchange", () => setTimeout(() => {
  said.push(visible());
  document.title = JSON.stringify(said);
}));
"""


@pytest.mark.skipif(CHROMIUM is None, reason="there is no browser")
def test_a_browser_finds_folds_sorts_and_follows_links(tmp_path: Path) -> None:
    text = page(tmp_path, js.summary(TIED, IDS))
    file = tmp_path / "driven.html"
    file.write_text(text.replace("</body>", f"<script>{DRIVER}</script></body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000"]
    command = [str(CHROMIUM), *options, "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    title = re.search("<title>(.*)</title>", done.stdout)
    assert title is not None
    assert json.loads(title[1]) == [
        ["block", "block/up", "block/up/bias"],
        "1 found",
        ["embed", "block", "head"],
        ["embed", "block", "head"],
        ["embed", "embed/table", "block", "head"],
    ]


# Mistakes


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ArgumentError) as caught:
        js.summary(dense, shape(2, 3))
    assert re.sub("0x[0-9a-f]+", "0x", str(caught.value)) == (
        "The argument of summary must be what transform returns, got <function dense at 0x> of "
        "type function.\n"
        "  fix:    give the network itself, jscope.summary(jscope.transform(fn), ...)."
    )
    with pytest.raises(ArgumentError) as caught:
        js.summary(3)
    assert str(caught.value) == (
        "The argument of summary must be what transform returns, got 3 of type int."
    )


def test_params_given_to_a_summary_are_an_error_that_says_so() -> None:
    with pytest.raises(TypeError, match="positional argument") as caught:
        js.summary(js.transform(dense), {}, None, shape(2, 3))
    assert caught.value.__notes__[0] == (
        "summary takes what net.specs takes: no params, no state and no key."
    )


@pytest.mark.parametrize("depth", [0, -1, 1.5, True, "all"])
def test_a_depth_that_is_none_is_refused(depth: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^The depth must be an int of 1 or more, got "):
        js.summary(TIED, IDS, depth=depth)


def test_errors_of_the_function_are_those_of_specs() -> None:
    def fn() -> None:
        js.get_variable("w", [2])
        with js.variable_scope(js.get_variable_scope(), reuse=True):
            js.get_variable("w", [3])

    with pytest.raises(VariableMismatchError, match="specified shape"):
        js.summary(js.transform(fn))


def test_a_path_that_is_no_page_is_refused() -> None:
    found = js.summary(TIED, IDS)
    for path in ("model.txt", 3, None):
        with pytest.raises(ArgumentError) as caught:
            found.save(path)  # type: ignore[arg-type]
        assert str(caught.value) == (
            'The path must be the path of an HTML file, such as "model.html", got '
            f"{path!r} of type {type(path).__name__}."
        )


def test_a_page_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "none" / "model.html"
    with pytest.raises(FileError) as caught:
        js.summary(TIED, IDS).save(path)
    assert str(caught.value) == (
        f"{path}: the summary cannot be written: No such file or directory.\n"
        "  fix:    give a path in a folder that is there and can be written to."
    )
    assert caught.value.path == str(path)


def test_summary_is_imported_when_it_is_used() -> None:
    code = (
        "import sys, jscope as js; names = {'jscope._summary', 'jscope._markup', 'rich'}; "
        "print(sorted(names & set(sys.modules))); js.summary; print(sorted(names & set(sys.modules)))"
    )
    said = output_of("-c", code)
    assert said == "[]\n['jscope._markup', 'jscope._summary']\n"
