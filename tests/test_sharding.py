"""Variables are laid out over a mesh by rules and partitioners, and every bad one is told."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from devices import on_eight_devices
from jax.sharding import AbstractMesh, PartitionSpec
from jax.sharding import PartitionSpec as P

import jscope as js
from jscope.errors import ArgumentError, ShardingError

MESH = AbstractMesh((2, 4), ("data", "model"))
X = jax.ShapeDtypeStruct((8, 16), jnp.float32)
zeros = jax.nn.initializers.zeros


def model(x: jax.Array) -> jax.Array:
    """Five variables: mlp/up/kernel [16, 32], its bias [32], mlp/h/kernel [3, 32, 32], ..."""
    with js.variable_scope("mlp"):
        x = js.layers.dense(x, 32, name="up")
        with js.variable_scope("h"):
            x = js.layer_stack(3)(lambda x: js.layers.dense(x, 32, name="fc"))(x)
        return x * js.get_variable("scale", [], initializer=zeros)


NET = js.transform(model)


def specs(net: Any = NET, mesh: AbstractMesh | None = None) -> js.Specs:
    with jax.sharding.use_abstract_mesh(mesh or AbstractMesh((), ())):
        found: js.Specs = net.specs(X)
        return found


def laid(rules: js.ShardingRules, mesh: AbstractMesh | None = None, net: Any = NET) -> Any:
    found = specs(js.sharded(net, rules), mesh)
    return {name: spec.partition for name, spec in found.items()}


def test_the_first_rule_that_means_a_variable_lays_it_out() -> None:
    rules = js.sharding_rules(
        {"**/up/kernel": P("data", "model"), "**/kernel": P(None, "model")}, default=P()
    )
    for mesh in (None, MESH):
        assert laid(rules, mesh) == {
            "mlp/up/kernel": P("data", "model"),
            "mlp/up/bias": P(),
            "mlp/h/fc/kernel": P(None, None, "model"),
            "mlp/h/fc/bias": P(),
            "mlp/scale": P(),
        }


PATTERNS: dict[str, Any] = {
    "glob": "**/up/kernel",
    "path": "mlp/up/kernel",
    "regular expression": re.compile(r"up/kernel$"),
    "predicate": lambda name, spec: len(spec.shape) == 2 and "up" in name,
}


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_a_rule_takes_what_its_pattern_means_in_a_tree(pattern: Any) -> None:
    found = laid(js.sharding_rules({pattern: P("data")}, default=P()))
    assert [name for name, partition in found.items() if partition] == ["mlp/up/kernel"]


LAYOUTS: dict[str, tuple[Any, PartitionSpec]] = {
    "PartitionSpec": (P(None, ("data", "model")), P(None, ("data", "model"))),
    "tuple of names": ((None, "model"), P(None, "model")),
    "logical names": (P("embed", "mlp"), P("data", "model")),
    "a logical name of two axes": (P(None, "all"), P(None, ("data", "model"))),
    "logical names among others": (P((), ("embed", "model")), P((), ("data", "model"))),
    "a logical name of nothing": (P("none", "model"), P(None, "model")),
    "function of the spec": (lambda spec: P(*spec.name.split("/")[1:1], "data"), P("data")),
    "function to axis names": (lambda spec: ["embed"], P("data")),
    "function to fsdp": (lambda spec: js.fsdp("mlp", 0), P(None, "model")),
    "fsdp": (js.fsdp("data", 0), P(None, "data")),
    "fsdp of a logical name": (js.fsdp("all", 0), P(None, ("data", "model"))),
    "fsdp over two axes": (js.fsdp(("data", "model"), 0), P(None, ("data", "model"))),
}
AXES = {"embed": "data", "mlp": "model", "all": ("data", "model"), "none": None}


@pytest.mark.parametrize(("layout", "expected"), LAYOUTS.values(), ids=LAYOUTS)
def test_a_layout_can_be_given_as(layout: Any, expected: PartitionSpec) -> None:
    rules = js.sharding_rules({"**/up/kernel": layout}, default=P(), axes=AXES)
    assert laid(rules, MESH)["mlp/up/kernel"] == expected
    by_default = js.sharding_rules({"**/bias": P(), "mlp/h": P()}, layout, AXES)
    assert laid(by_default, MESH)["mlp/up/kernel"] == expected
    late = specs(js.sharded(NET, rules)).shardings(MESH)["mlp"]["up"]["kernel"]
    assert late == jax.sharding.NamedSharding(MESH, expected)


def test_a_function_of_the_spec_answers_for_the_axes_of_stacks_too() -> None:
    seen: list[tuple[Any, ...]] = []

    def by_layer(spec: js.VariableSpec) -> PartitionSpec:
        seen.append((spec.name, spec.shape, spec.stack, str(spec.dtype), spec.sites[0].function))
        return P(None, "model", "data")

    rules = js.sharding_rules({"**/h/**/kernel": by_layer}, default=P())
    assert laid(rules, MESH)["mlp/h/fc/kernel"] == P(None, "model", "data")
    assert seen == [("mlp/h/fc/kernel", (3, 32, 32), (3,), "float32", "<lambda>")]


def test_fsdp_divides_the_largest_axis_that_divides_and_replicates_the_small() -> None:
    def shapes(x: Any) -> None:
        for name, shape in {"a": [12, 6], "b": [7, 8], "c": [8, 8], "d": [9, 4, 5]}.items():
            js.get_variable(name, shape)
        js.layer_stack(64)(lambda x: (js.get_variable("h", [4, 16]), x)[1])(x)
        js.get_variable("small", [3])

    rules = js.sharding_rules({}, js.fsdp("model", min_bytes=100))
    assert laid(rules, MESH, js.transform(shapes)) == {
        "a": P("model"),
        "b": P(None, "model"),
        "c": P("model"),
        "d": P(None, "model"),
        "h": P(None, None, "model"),
        "small": P(),
    }
    assert repr(js.fsdp("data")) == "fsdp('data', min_bytes=1048576)"
    assert js.fsdp("data") == js.fsdp("data", 1 << 20) != js.fsdp("data", 1)
    assert hash(js.fsdp("data")) == hash(js.fsdp("data", 1 << 20))


def test_fsdp_waits_for_the_mesh_where_none_is_known() -> None:
    found = specs(js.sharded(NET, js.sharding_rules({}, js.fsdp("data", 0))))
    assert found["mlp/up/kernel"].partition == js.fsdp("data", 0)
    for size, kernel in ((2, P(None, "data")), (1, P())):
        places = found.shardings(AbstractMesh((size,), ("data",)))
        assert places["mlp"]["up"]["kernel"].spec == kernel


def by_columns(shape: tuple[int, ...], dtype: Any) -> PartitionSpec:
    assert (shape, dtype) == ((4, 8), jnp.float32)
    return P(None, "mlp")


def parted(x: Any) -> None:
    with js.variable_scope("a", partitioner=P("embed")):
        js.get_variable("w", [4, 8])
        with js.variable_scope("b"):
            js.get_variable("w", [4, 8])
            js.get_variable("own", [4, 8], partitioner=by_columns)
        js.layer_stack(3)(lambda x: (js.get_variable("h", [4, 8]), x)[1])(x)
        js.get_variable("whole", [3], partitioner=P())
    js.get_variable("c", [4])


def test_a_partitioner_is_inherited_and_rules_win_over_it() -> None:
    rules = js.sharding_rules({"a/b/w": P(None, "model")}, default=P(), axes=AXES)
    found = specs(js.sharded(js.transform(parted), rules), MESH)
    assert {name: spec.partition for name, spec in found.items()} == {
        "a/w": P("data"),
        "a/b/w": P(None, "model"),
        "a/b/own": P(None, "model"),
        "a/h": P(None, "data"),
        "a/whole": P(),
        "c": P(),
    }
    assert found["a/w"].partitioner == P("embed")
    again = pickle.loads(pickle.dumps(specs(js.transform(parted))))
    with pytest.raises(ShardingError, match="names 'embed', which is no axis of the mesh"):
        again.shardings(MESH)


def test_partitioners_alone_lay_variables_out_under_a_mesh() -> None:
    def fn(x: Any) -> None:
        js.get_variable("w", [4, 8], partitioner=("data", "model"))
        js.layer_stack(3)(lambda x: (js.get_variable("h", [8], partitioner=P("data")), x)[1])(x)
        js.get_variable("b", [8])

    found = specs(js.transform(fn), MESH)
    assert [spec.partition for spec in found.values()] == [
        P("data", "model"),
        P(None, "data"),
        None,
    ]
    late = specs(js.transform(fn))
    assert [spec.partition for spec in late.values()] == [("data", "model"), P("data"), None]
    for each in (found, late, pickle.loads(pickle.dumps(found))):
        laid_out = js.tree.flatten(each.shardings(MESH))
        assert [place.spec for place in laid_out.values()] == [
            P("data", "model"),
            P(None, "data"),
            P(),
        ]


def test_specs_give_structs_with_shardings_of_params_and_state() -> None:
    def fn() -> None:
        js.get_variable("w", [4, 8])
        js.get_variable("mean", [8], trainable=False)

    rules = js.sharding_rules({"w": P("data"), "mean": P("model")})
    found = js.sharded(js.transform_with_state(fn), rules).specs()
    assert list(found.params(MESH)) == list(found.shardings(MESH)) == ["w"]
    assert list(found.state(MESH)) == list(found.state_shardings(MESH)) == ["mean"]
    struct = found.params(MESH)["w"]
    assert (struct.shape, struct.dtype, struct.sharding.spec) == ((4, 8), jnp.float32, P("data"))
    assert found.state(MESH)["mean"].sharding == found.state_shardings(MESH)["mean"]
    assert found.params()["w"].sharding is None
    js.check(found.params(MESH), found)


def test_a_report_says_what_each_rule_takes() -> None:
    rules = js.sharding_rules(
        {"a/b/w": P(None, "model"), re.compile("own"): js.fsdp("data")}, default=P(), axes=AXES
    )
    net = js.transform(parted)
    report = """\
'a/b/w' -> P(None, 'model')                           1 variable, 128 bytes: 'a/b/w'
re.compile('own') -> fsdp('data', min_bytes=1048576)  1 variable, 128 bytes: 'a/b/own'
partitioners of variables                             3 variables, 524 bytes: 'a/w', 'a/h', 'a/whole'
default -> P()                                        1 variable, 16 bytes: 'c'"""
    for found in (specs(net), specs(js.sharded(net, rules)), specs(js.sharded(net, rules), MESH)):
        assert rules.report(found) == report
    over = rules.report(specs(net), MESH).splitlines()
    assert over[1].endswith("1 variable, 128 bytes, 128 a device: 'a/b/own' P()")
    assert over[2].endswith(
        "3 variables, 524 bytes, 268 a device: 'a/w' P('data'), 'a/h' P(None, 'data'), 'a/whole' P()"
    )
    nothing = js.sharding_rules({"x": P()}).report(specs(net))
    assert re.split("  +", nothing.splitlines()[0]) == ["'x' -> P()", "nothing"]


def test_a_spec_shows_its_layout() -> None:
    assert repr(specs(js.sharded(NET, js.sharding_rules({}, P("data")))).get("mlp/up/bias")) == (
        "VariableSpec('mlp/up/bias', float32[32], P('data'))"
    )


def test_what_jax_asks_on_explicit_axes_is_told_with_what_to_do() -> None:
    types = (jax.sharding.AxisType.Explicit,) * 2
    net = js.sharded(
        js.transform(lambda x: x @ js.get_variable("w", [16, 4])),
        js.sharding_rules({"w": P("data")}),
    )
    x = jax.ShapeDtypeStruct((8, 16), jnp.float32)
    over = jax.sharding.use_abstract_mesh(AbstractMesh((2, 4), ("data", "model"), types))
    with over, pytest.raises(Exception, match="sharding") as caught:
        jax.eval_shape(lambda x: net.specs(jax.sharding.reshard(x, P(None, "data"))), x)
    assert caught.value.__notes__[0] == (
        "Along Explicit axes of a mesh JAX asks how this is laid out. Functions of jscope.layers "
        "say it; for others say it there, use a mesh whose axis_types are "
        "jax.sharding.AxisType.Auto, or run apply in jax.sharding.auto_axes."
    )


def test_a_net_is_of_the_same_kind_and_pickles_with_its_rules() -> None:
    rules = js.sharding_rules({"**/kernel": P(None, "mlp")}, js.fsdp("data"), axes=AXES)
    again = pickle.loads(pickle.dumps(js.sharded(NET, rules)))
    assert type(again) is type(NET)
    assert laid(rules, MESH) == {n: s.partition for n, s in specs(again, MESH).items()}
    with_state = js.sharded(js.transform_with_state(model), rules)
    assert isinstance(with_state, js.TransformedWithState)
    bare = js.sharded(js.without_apply_rng(NET), rules)
    x = jnp.ones([2, 16])
    assert bare.apply(bare.init(0, x), x).shape == (2, 32)
    assert repr(rules) == "ShardingRules(['**/kernel'])"
    assert repr(bare) == repr(js.without_apply_rng(js.sharded(NET, rules)))


def test_rules_of_a_sharded_net_are_replaced() -> None:
    first = js.sharded(NET, js.sharding_rules({"nothing": P()}))
    rules = js.sharding_rules({}, default=P("data"))
    assert specs(js.sharded(first, rules))["mlp/up/bias"].partition == P("data")


def test_a_scalar_needs_no_rule_and_is_told_of_one_that_divides_it() -> None:
    def fn(x: Any) -> None:
        with js.variable_scope("a", partitioner=P("data")):
            js.get_variable("w", [4])
            js.get_variable("scale", [])
            js.layer_stack(2)(lambda x: (js.get_variable("scales", []), x)[1])(x)

    for net in (js.transform(fn), js.sharded(js.transform(fn), js.sharding_rules({}, P("data")))):
        found = specs(net, MESH)
        assert [spec.partition for spec in found.values()] == [P("data"), P(), P()]
    net = js.sharded(js.transform(fn), js.sharding_rules({"**/scale": P("data")}))
    with pytest.raises(ShardingError, match=r"P\('data'\) has 1 entry for the shape \(\)"):
        net.specs(X)


PROBLEMS: dict[str, tuple[Any, AbstractMesh | None, str]] = {
    "nothing lays it out": (
        js.sharding_rules({"mlp": P()}),
        None,
        """\
Variables cannot be laid out: 1 problem.
  own: float32[6,7] at {place}, no rule takes it, and there is no default
  fix:    give a rule that takes it, or default=PartitionSpec() to replicate the others.""",
    ),
    "a rule takes nothing": (
        js.sharding_rules({"mlp/kernl": P(), "x": P()}, default=P()),
        None,
        """\
Variables cannot be laid out: 2 problems.
  rule 'mlp/kernl': it takes nothing; near: 'mlp/kernel'
  rule 'x': it takes nothing
  fix:    mend the pattern, as jscope.tree has them, or leave out rules that take nothing.""",
    ),
    "a rule is shadowed": (
        js.sharding_rules({"mlp": P(), "mlp/kernel": P()}, default=P()),
        MESH,
        """\
Variables cannot be laid out over the mesh (data=2, model=4): 1 problem.
  rule 'mlp/kernel': rules before it take all that it means: 'mlp/kernel'
  fix:    the first rule that means a variable takes it: put the narrower pattern first.""",
    ),
    "a mesh axis is used twice": (
        js.sharding_rules({"own": P("a", ("b", "model"))}, P(), axes={"a": "data", "b": "data"}),
        None,
        """\
Variables cannot be laid out: 1 problem.
  own: float32[6,7] at {place}, rule 'own', P('a', ('b', 'model')), which stands for \
P('data', ('data', 'model')), uses the mesh axis 'data' twice
  fix:    a mesh axis can divide one axis of an array; let another one stay whole, by None.""",
    ),
    "an axis is unknown": (
        js.sharding_rules({"own": P("modell")}, default=P()),
        MESH,
        """\
Variables cannot be laid out over the mesh (data=2, model=4): 1 problem.
  own: float32[6,7] at {place}, rule 'own', P('modell') names 'modell', which is no axis of the \
mesh; near: 'model'
  fix:    name axes of the mesh; jscope.sharding_rules(..., axes={{...}}) says what logical names \
stand for.""",
    ),
    "a size does not divide": (
        js.sharding_rules({"own": P(None, ("data", "model"))}, default=P()),
        MESH,
        """\
Variables cannot be laid out over the mesh (data=2, model=4): 1 problem.
  own: float32[6,7] at {place}, rule 'own', axis 1 of (6, 7) does not divide into 8 parts, along \
('data', 'model') of P(None, ('data', 'model'))
  fix:    divide another axis, as jscope.fsdp(...) looks for one, or let it be replicated.""",
    ),
    "fsdp finds no axis": (
        js.sharding_rules({}, default=js.fsdp("model", 50)),
        MESH,
        """\
Variables cannot be laid out over the mesh (data=2, model=4): 1 problem.
  own: float32[6,7] at {place}, the default, fsdp('model', min_bytes=50) finds no axis of (6, 7) \
that divides into 4 parts
  fix:    give it a rule of its own, PartitionSpec() to replicate it, or raise min_bytes.""",
    ),
    "fsdp names an unknown axis": (
        js.sharding_rules({"own": js.fsdp("modle", 0)}, default=P()),
        MESH,
        """\
Variables cannot be laid out over the mesh (data=2, model=4): 1 problem.
  own: float32[6,7] at {place}, rule 'own', fsdp('modle', min_bytes=0) names 'modle', which is no \
axis of the mesh; near: 'model'
  fix:    name axes of the mesh; jscope.sharding_rules(..., axes={{...}}) says what logical names \
stand for.""",
    ),
    "there are too many entries": (
        js.sharding_rules({"own": P(None, None, "data")}, default=P()),
        None,
        """\
Variables cannot be laid out: 1 problem.
  own: float32[6,7] at {place}, rule 'own', P(None, None, 'data') has 3 entries for the shape (6, 7)
  fix:    give at most one entry for each axis that get_variable was asked for; for variables of \
several ranks a partitioner is a function of (shape, dtype), and a rule that is a function of the \
VariableSpec answers for the axes of stacks too.""",
    ),
    "a function returns something else": (
        js.sharding_rules({"own": lambda spec: None}, default=P()),
        None,
        """\
Variables cannot be laid out: 1 problem.
  own: float32[6,7] at {place}, rule 'own', None is no PartitionSpec
  fix:    give a PartitionSpec; PartitionSpec() replicates.""",
    ),
    "an entry is no name": (
        js.sharding_rules({"own": P(3)}, default=P()),
        None,
        """\
Variables cannot be laid out: 1 problem.
  own: float32[6,7] at {place}, rule 'own', 3 is no name of an axis
  fix:    an entry is the name of an axis, a tuple of names, or None.""",
    ),
    "sums are still to be taken": (
        js.sharding_rules({"own": P("data", unreduced={"model"})}, default=P()),
        None,
        """\
Variables cannot be laid out: 1 problem.
  own: float32[6,7] at {place}, rule 'own', P('data') is of sums that are still to be taken, as \
variables never are
  fix:    give a PartitionSpec without reduced and unreduced axes.""",
    ),
}


def two(x: Any) -> None:
    js.get_variable("own", [6, 7])
    js.get_variable("mlp/kernel", [8])


@pytest.mark.parametrize(("rules", "mesh", "text"), PROBLEMS.values(), ids=PROBLEMS)
def test_it_is_told_that(rules: js.ShardingRules, mesh: AbstractMesh | None, text: str) -> None:
    net = js.sharded(js.transform(two), rules)
    place = specs(js.transform(two))["own"].sites[0]
    runs: list[Callable[[], Any]] = [lambda: net.specs(X), lambda: jax.eval_shape(net.init, 0, X)]
    for run in runs:
        over = jax.sharding.use_abstract_mesh(mesh or AbstractMesh((), ()))
        with over, pytest.raises(ShardingError) as caught:
            run()
        assert str(caught.value) == text.format(place=place)
        assert isinstance(caught.value, ValueError)
        assert len(caught.value.problems) == int(re.findall(r"(\d+) problem", text)[0])
        again = pickle.loads(pickle.dumps(caught.value))
        assert (str(again), again.problems) == (str(caught.value), caught.value.problems)


def test_all_problems_are_told_at_once() -> None:
    rules = js.sharding_rules({"own": P("x"), "none": P()})
    net = js.sharded(js.transform(two), rules)
    with jax.sharding.use_abstract_mesh(MESH), pytest.raises(ShardingError) as caught:
        net.specs(X)
    assert list(caught.value.problems) == ["own", "mlp/kernel", "rule 'none'"]


def test_a_mesh_is_checked_again_where_shardings_are_asked_for() -> None:
    found = specs(js.sharded(js.transform(two), js.sharding_rules({"own": P("data")}, P())))
    for ask in (found.shardings, found.params):
        with pytest.raises(ShardingError) as caught:
            ask(AbstractMesh((4,), ("data",)))
        assert (
            str(caught.value)
            .splitlines()[1]
            .endswith(
                "its layout, axis 0 of (6, 7) does not divide into 4 parts, along 'data' of P('data')"
            )
        )


def test_an_error_of_a_users_layout_says_for_which_variable() -> None:
    def fails(spec: js.VariableSpec) -> PartitionSpec:
        raise KeyError("mine")

    net = js.sharded(js.transform(two), js.sharding_rules({"own": fails}, P()))
    with pytest.raises(KeyError, match="mine") as caught:
        net.specs(X)
    assert caught.value.__notes__[:1] == ["in the layout of variable own, float32[6,7]"]


ARGUMENTS: dict[str, tuple[Callable[[], Any], str]] = {
    "rules": (
        lambda: js.sharding_rules([("a", P())]),  # type: ignore[arg-type]
        "The rules must be a mapping of patterns to layouts, got [('a', P())] of type list.",
    ),
    "layout": (
        lambda: js.sharding_rules({"a": "data"}),
        "The layout of 'a' must be a PartitionSpec, a tuple of axis names, jscope.fsdp(...), or a "
        "function of the VariableSpec that returns one, got 'data' of type str.\n"
        "  fix:    PartitionSpec('model') divides the first axis, PartitionSpec() replicates.",
    ),
    "default": (
        lambda: js.sharding_rules({}, default=3),
        "The default must be a PartitionSpec, a tuple of axis names, jscope.fsdp(...), or a function "
        "of the VariableSpec that returns one, got 3 of type int.\n"
        "  fix:    PartitionSpec('model') divides the first axis, PartitionSpec() replicates.",
    ),
    "fsdp that is not called": (
        lambda: js.sharding_rules({}, default=js.fsdp),
        "The default must be what a call of it gives, jscope.fsdp('data'), got <function fsdp "
        "at ...> of type function.",
    ),
    "partitioner": (
        lambda: js.transform(lambda: js.get_variable("w", [2], partitioner="data")).specs(),
        "The partitioner must be a PartitionSpec, a tuple of axis names, jscope.fsdp(...), or a "
        "function of (shape, dtype) that returns one, got 'data' of type str.\n"
        "  fix:    PartitionSpec('model') divides the first axis, PartitionSpec() replicates.",
    ),
    "axes": (
        lambda: js.sharding_rules({}, axes={"a": 3}),  # type: ignore[dict-item]
        "The value of 'a' in axes must be the name of a mesh axis, a tuple of some, or None, got 3 "
        "of type int.",
    ),
    "axes of another kind": (
        lambda: js.sharding_rules({}, axes=["a"]),  # type: ignore[arg-type]
        "The axes must be a mapping of logical names to mesh axes, got ['a'] of type list.",
    ),
    "axis": (
        lambda: js.fsdp(3),  # type: ignore[arg-type]
        "The axis must be the name of a mesh axis, or several as a tuple, got 3 of type int.",
    ),
    "min_bytes": (
        lambda: js.fsdp("data", -1),
        "The min_bytes must be an int of 0 or more, got -1 of type int.",
    ),
    "net": (
        lambda: js.sharded(model, js.sharding_rules({})),
        "The argument of sharded must be what transform returns, got <function model at ...> of "
        "type function.",
    ),
    "rules of sharded": (
        lambda: js.sharded(NET, {"a": P()}),  # type: ignore[arg-type]
        "The rules must be what jscope.sharding_rules returns, got {'a': P()} of type dict.\n"
        "  fix:    give jscope.sharding_rules({pattern: layout, ...}).",
    ),
    "mesh": (
        lambda: js.sharded(NET, js.sharding_rules({}), ("data",)),  # type: ignore[arg-type]
        "The mesh must be a jax.sharding.Mesh or None, got ('data',) of type tuple.\n"
        "  fix:    without devices, ask for specs.params(mesh) of an AbstractMesh.",
    ),
    "specs": (
        lambda: js.sharding_rules({}).report({}),  # type: ignore[arg-type]
        "The specs must be what net.specs(...) returned, got {} of type dict.",
    ),
    "mesh of shardings": (
        lambda: specs().shardings({"data": 2}),  # type: ignore[arg-type]
        "The mesh must be a jax.sharding.Mesh or AbstractMesh, got {'data': 2} of type dict.",
    ),
}


@pytest.mark.parametrize(("call", "text"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_an_argument_of_another_kind_is_refused(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        call()
    shown = re.sub(r"at 0x[0-9a-f.]+>?", "at ...>", str(caught.value))
    assert shown == text


def test_init_on_one_device_makes_what_it_makes_without_a_mesh() -> None:
    rules = js.sharding_rules({"**/kernel": P(None, "model")}, default=P())
    mesh = jax.make_mesh((1,), ("model",))
    plain = NET.init(0, X)
    with jax.set_mesh(mesh):
        under = js.sharded(NET, rules).init(0, X)
    given = js.sharded(NET, rules, mesh).init(0, X)
    for params in (under, given):
        for name, value in js.tree.flatten(params).items():
            assert (value == js.tree.flatten(plain)[name]).all()
            assert value.sharding.mesh == mesh
    assert under["mlp"]["up"]["kernel"].sharding.spec == P(None, "model")


KINDS = ["auto", "explicit", "mixed"]


@pytest.mark.parametrize("kind", KINDS)
def test_variables_are_born_divided_with_the_values_without_a_mesh(kind: str) -> None:
    births = on_eight_devices("sharding_programs.py")["births"][kind]
    assert births.pop("vmap") == "[]"
    assert births == dict.fromkeys(
        ["set", "shapes", "jit", "key on the mesh", "legacy key", "given"], "[[], [], [], []]"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_training_over_a_mesh_equals_training_without(kind: str) -> None:
    found = on_eight_devices("sharding_programs.py")["training"][kind]
    assert found.pop("losses") < 1e-5
    assert found == {
        "params": [],
        "gradients": [],
        "calls": 3,
        "misplaced": [],
        "donated": True,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_structs_with_shardings_compile_and_restore(kind: str) -> None:
    assert on_eight_devices("sharding_programs.py")["ahead"][kind] == {
        "compiled": "ok",
        "restored": "[]",
        "rbg": "[]",
    }
