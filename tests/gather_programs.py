"""What ``test_gather.py`` looks at, on meshes of 8 devices; needs a process that has them."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from mesh_programs import differ

import jscope as js

Net = Callable[[jax.Array], Any]
AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit
# Name -> types of the axes "data" (2) and "model" (4).
MESHES = {
    "auto": (AUTO, AUTO),
    "explicit": (EXPLICIT, EXPLICIT),
    "explicit data, auto model": (EXPLICIT, AUTO),
    "auto data, explicit model": (AUTO, EXPLICIT),
}
LAYERS = 2
FEW = "scopes", "checkpointed stack"


def mesh_of(kind: str) -> jax.sharding.Mesh:
    return jax.make_mesh((2, 4), ("data", "model"), axis_types=MESHES[kind])


def both(kind: str) -> tuple[str, str]:
    """Both axes, explicit ones first: types say of a layout over both what is outermost."""
    return ("model", "data") if MESHES[kind] == (AUTO, EXPLICIT) else ("data", "model")


def batch() -> np.ndarray:
    return np.linspace(-1, 1, 8 * 16, dtype=np.float32).reshape(8, 16)


def block(x: jax.Array) -> jax.Array:
    return x + jnp.tanh(x @ js.get_variable("a", [16, 32])) @ js.get_variable("b", [32, 16])


def in_scopes(f: Net) -> Net:
    def program(x: jax.Array) -> jax.Array:
        for number in range(LAYERS):
            with js.variable_scope(f"layer_{number}"):
                x = f(x)
        return x

    return program


FORMS: dict[str, Net] = {
    "scopes": in_scopes(block),
    "checkpoints": in_scopes(js.checkpoint(block)),
    "stack": lambda x: js.layer_stack(LAYERS)(block)(x),
    "checkpointed stack": lambda x: js.layer_stack(LAYERS, checkpoint=True)(block)(x),
}


def gathering(f: Net) -> Net:
    return js.variable_scope("", custom_getter=js.getters.gather())(f)


def divided(f: Net, kind: str, default: P | None = None) -> Any:
    """A net whose kernels are divided over all devices: "a" by rows and "b" by columns, or as ``default`` says."""
    rules = {} if default else {"**/a": P(both(kind)), "**/b": P(None, both(kind))}
    return js.sharded(js.transform(f), js.sharding_rules(rules, default=default))


def gathers(text: str) -> dict[str, list[int]]:
    """Sizes of what is gathered in loops of a compiled program, and outside of them."""
    bodies = set(re.findall(r"body=(%[\w.\-]+)", text))
    found: dict[str, list[int]] = {"in loops": [], "outside": []}
    here = ""
    for line in text.splitlines():
        if line.endswith("{"):
            here = line.removeprefix("ENTRY ").split(" ")[0]
        elif match := re.search(r" = \w+\[([\d,]*)\]\S* all-gather(-start)?\(", line):
            size = int(np.prod([int(n) for n in match[1].split(",")]))
            found["in loops" if here in bodies else "outside"].append(size)
    return {place: sorted(sizes) for place, sizes in found.items()}


def layouts(tree: Any) -> dict[str, list[str]]:
    """Last component of a name -> into how many parts each axis of such arrays is divided."""
    found: dict[str, list[str]] = {}
    for name, value in js.tree.flatten(tree).items():
        shown = found.setdefault(name.rpartition("/")[2], [])
        parts = str([size // part for size, part in zip(value.shape, part_of(value), strict=True)])
        shown += [] if parts in shown else [parts]
    return found


def part_of(value: jax.Array) -> tuple[int, ...]:
    """The shape of what one device has of a value."""
    shape: tuple[int, ...] = value.sharding.shard_shape(value.shape)
    return shape


def loss(net: Any, params: Any, x: Any) -> tuple[Any, Any]:
    out = net.apply(params, None, x)
    return jnp.sum(out**2), out


@functools.cache
def without_a_mesh(f: Net) -> Any:
    """Loss, result and gradient."""
    net, x = js.transform(f), batch()
    derive = jax.value_and_grad(functools.partial(loss, net), has_aux=True)
    return jax.jit(derive)(net.init(0, x), x)


def gathered(kind: str, form: str) -> dict[str, Any]:
    """How a step of training by a net that gathers compares with one without a mesh."""
    wanted = without_a_mesh(FORMS[form])
    with jax.set_mesh(mesh_of(kind)):
        net = divided(gathering(FORMS[form]), kind)
        given = jax.device_put(batch(), P("data"))
        params = net.init(0, given)

        def step(params: Any, x: Any) -> Any:
            derive = jax.value_and_grad(functools.partial(loss, net), has_aux=True)
            value, gradient = derive(params, x)
            return value, gradient, jax.tree.map(lambda p, g: p - g, params, gradient)

        compiled = jax.jit(step).lower(params, given).compile()
        value, gradient, new = compiled(params, given)
        again = jax.tree.map(lambda p, g: np.asarray(p) - np.asarray(g), params, gradient)
        return {
            "values": differ((value, gradient), wanted),
            "new values": differ(new, again),
            "gathers": gathers(compiled.as_text()),
            "layouts": layouts(params),
            "layouts of gradients": layouts(gradient),
            "new layouts": layouts(new),
        }


def casts(kind: str) -> list[str]:
    """The dtype of what is gathered, with ``cast`` around ``gather`` and inside of it."""
    cast, gather = js.getters.cast(jnp.bfloat16), js.getters.gather()
    found = []
    with jax.set_mesh(mesh_of(kind)):
        for getters in ((cast, gather), (gather, cast)):

            def program(getters: Any = getters) -> Any:
                outer = js.variable_scope("outer", custom_getter=getters[0])
                with outer, js.variable_scope("inner", custom_getter=getters[1]):
                    return js.get_variable("a", [16, 32])

            net = divided(program, kind, P(both(kind)))
            steps = jax.make_jaxpr(lambda p, net=net: net.apply(p, None))(net.init(0)).eqns
            moves = [step for step in steps if "shard" in step.primitive.name]
            (dtype,) = {str(step.outvars[0].aval.dtype) for step in moves}
            found.append(dtype)
    return found


def means(x: jax.Array) -> jax.Array:
    """A function of shards that talks across them."""
    return block(x) - jax.lax.pmean(x.mean(0, keepdims=True), "data")


def without_shards(x: jax.Array) -> jax.Array:
    return block(x) - x.mean(0, keepdims=True)


def shards(kind: str, axis_names: set[str], given: bool) -> dict[str, Any]:
    """How ``js.shard_map`` over the data compares with the function without a mesh."""
    mesh, over = mesh_of(kind), P("data")
    wanted = without_a_mesh(without_shards)
    fn = js.shard_map(
        means,
        mesh=mesh if given else None,
        in_specs=over,
        out_specs=over,
        axis_names=axis_names,
    )
    with jax.set_mesh(mesh):
        net = divided(fn, kind)
        sharded = jax.device_put(batch(), over)
        params = net.init(0, sharded)
        derive = jax.value_and_grad(functools.partial(loss, net), has_aux=True)
        compiled = jax.jit(derive).lower(params, sharded).compile()
        found = compiled(params, sharded)
        return {
            "values": differ(found, wanted),
            "eager values": differ(net.apply(params, None, sharded), wanted[0][1]),
            "layouts": layouts(params),
            "layouts of gradients": layouts(found[1]),
        }


def draws(kind: str) -> dict[str, str]:
    """Whether shards along the divided axes draw keys of their own, with their numbers."""
    key = js.transform(js.next_rng_key).apply({}, 1)
    numbered = [jax.random.key_data(jax.random.fold_in(key, number)) for number in range(8)]

    def draw(x: jax.Array) -> jax.Array:
        return jax.random.key_data(js.next_rng_key())[None] + x[:1, :1].astype(jnp.uint32)

    found = {}
    with jax.set_mesh(mesh_of(kind)):
        for name, spec, parts in (("data", P("data"), 2), ("both", P(("data", "model")), 8)):
            x = jax.device_put(jnp.zeros([8, 16]), spec)
            options: dict[str, Any] = {"in_specs": spec}
            for inferred in (False, True) if kind == "explicit" else (False,):
                fn = js.shard_map(draw, out_specs=spec, **({} if inferred else options))
                keys = jax.jit(js.transform(fn).apply)({}, 1, x)
                found[f"{name}{', inferred' * inferred}"] = differ(
                    keys, jnp.stack(numbered[:parts])
                )
        whole = jax.device_put(jnp.zeros([8, 16]), P())
        fn = js.shard_map(draw, in_specs=P(), out_specs=P())
        same = jax.jit(js.transform(fn).apply)({}, 1, whole)
        found["none"] = differ(same, jax.random.key_data(key)[None])
    return found


def refused(kind: str) -> dict[str, Any]:
    """Error and notes of raw ``shard_map`` around a variable, in init and eagerly in apply."""
    raw = js.transform(jax.shard_map(block, in_specs=P("data"), out_specs=P("data")))
    found = {}
    with jax.set_mesh(mesh_of(kind)):
        x = jax.device_put(batch(), P("data"))
        params = {"a": jnp.ones([16, 32]), "b": jnp.ones([32, 16])}
        params = {name: jax.device_put(value, P()) for name, value in params.items()}
        for name, call in {
            "init": lambda: raw.init(0, x),
            "apply": lambda: raw.apply(params, None, x),
            "jitted apply": lambda: jax.jit(raw.apply)(params, None, x),
        }.items():
            try:
                call()
                found[name] = ["ok"]
            except NotImplementedError as error:
                notes = [note for note in error.__notes__ if "jscope" in note]
                found[name] = [type(error).__name__, *notes]
    return found


def partly_manual(kind: str) -> str:
    """Whether a function of shards over one axis may gather over the other."""

    def program(x: jax.Array) -> jax.Array:
        v = js.get_variable("v/a", [16, 32])
        over = P("data")
        f = js.shard_map(block, in_specs=over, out_specs=over, axis_names={"data"})
        return f(x) * v.sum()

    x = batch()
    plain = js.transform(lambda x: block(x) * js.get_variable("v/a", [16, 32]).sum())
    wanted = plain.apply(plain.init(0, x), None, x)
    with jax.set_mesh(mesh_of(kind)):
        net = divided(gathering(program), kind)
        sharded = jax.device_put(x, P("data"))
        return differ(jax.jit(net.apply)(net.init(0, sharded), None, sharded), wanted)


def without_a_set_mesh(kind: str) -> dict[str, list[str]]:
    """Layouts of what ``gather`` reads where params lie on a mesh, and none is set."""
    net = js.transform(gathering(lambda: js.get_variable("a", [16, 32])))  # type: ignore[arg-type]
    over = jax.sharding.NamedSharding(mesh_of(kind), P(both(kind)))
    params = {"a": jax.device_put(jnp.ones([16, 32]), over)}
    return layouts({"eager": net.apply(params, None), "jit": jax.jit(net.apply)(params, None)})


if __name__ == "__main__":
    found = {
        kind: {
            "gathered": {
                form: gathered(kind, form) for form in (FEW if len(set(types)) > 1 else FORMS)
            },
            "casts": casts(kind),
            "shards": {
                "all axes": shards(kind, set(), given=False),
                "one axis, of a mesh given": shards(kind, {"data"}, given=True),
            },
            "draws": draws(kind),
            "refused": refused(kind),
            "partly manual": partly_manual(kind),
            "without a set mesh": without_a_set_mesh(kind),
        }
        for kind, types in MESHES.items()
    }
    print(json.dumps(found))
