"""transform: init, apply and specs of a function that makes variables."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, Self, TypeVar, overload

import jax
from jax.sharding import NamedSharding, PartitionSpec

from jscope import _jaxapi, _pass, _signature
from jscope._arguments import bad_argument
from jscope._keys import Rng, as_key
from jscope._layout import Rules
from jscope._params import NestedMapping, Params, PyTree, grow, is_array, params_of, walk, wrap
from jscope._pass import Pass
from jscope._processes import check_arguments, check_starts
from jscope._program import Start
from jscope._reading import Blank, Given, Replay
from jscope._report import initializer_error
from jscope._sampling import Sampler
from jscope._scope import VariableScope
from jscope._seeing import connect
from jscope._spec import Args, Function, Kwargs, Specs, VariableSpec, is_specs
from jscope.errors import InitializerError, JscopeError, Site, TransformError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
V = TypeVar("V")
A = ParamSpec("A")
Net = TypeVar("Net", bound="_Network[Any, Any, Any, Any]")


class _Setting(NamedTuple):
    """How the variables of a network are laid out over a mesh."""

    rules: Rules | None = None
    mesh: jax.sharding.Mesh | None = None

    def __call__(self) -> contextlib.AbstractContextManager[object]:
        """Sets the mesh, if there is one of its own."""
        if self.mesh is None:
            return contextlib.nullcontext()
        if _jaxapi.is_eager(_jaxapi.current_trace()):
            return _jaxapi.set_mesh(self.mesh)
        return jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh)


class _Network(tuple[Callable[Concatenate[Rng, P], V], Callable[A, R]], Generic[A, P, R, V]):
    # A tuple, as type checkers unpack nothing else into functions of two types. To JAX it is a
    # leaf, as all subclasses of tuples are that are no named ones.

    init: Callable[Concatenate[Rng, P], V]
    apply: Callable[A, R]
    specs: Callable[P, Specs]
    _maker: tuple[Function, tuple[object, ...]]

    def __new__(
        cls,
        init: Callable[Concatenate[Rng, P], V],
        apply: Callable[A, R],
        specs: Callable[P, Specs],
        maker: tuple[Function, tuple[object, ...]],
    ) -> Self:
        network = super().__new__(cls, (init, apply))
        network.init, network.apply = init, apply
        network.specs = specs
        network._maker = maker
        return network

    def __reduce__(self) -> tuple[Function, tuple[object, ...]]:
        return self._maker

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._maker[1][0]!r})"


class Transformed(_Network[A, P, R, Params]):
    """The pure functions of one function that makes variables.

    Unpacks as the pair ``init, apply``. Pickles when its function does.

    Attributes:
      init: ``init(rng, *args, **kwargs) -> Params``, the initial values. Arrays among the arguments
        are used for shape and dtype only (``jax.ShapeDtypeStruct`` will do); all other arguments
        reach the function as they are.
      apply: ``apply(params, rng, *args, **kwargs) -> out``, the function with these values.
      specs: ``specs(*args, **kwargs) -> Specs``, the variables without values.

    Example:
      >>> import jscope as js
      >>> net = js.transform(lambda: js.get_variable("w", [2]))
      >>> init, apply = net
      >>> apply(init(0), None).shape
      (2,)
    """


class TransformedWithState(_Network[A, P, R, tuple[Params, Params]]):
    """The pure functions of one function that makes variables and keeps state.

    Unpacks as the pair ``init, apply``. Pickles when its function does.

    Attributes:
      init: ``init(rng, *args, **kwargs) -> (params, state)``, the initial values of the trainable
        and of the other variables. Takes arguments as ``Transformed.init`` does.
      apply: ``apply(params, state, rng, *args, **kwargs) -> (out, new_state)``.
      specs: ``specs(*args, **kwargs) -> Specs``, the variables without values.

    Example:
      >>> import jscope as js
      >>> def count():
      ...     js.get_variable("calls", initializer=0, trainable=False)
      ...     return js.assign_add("calls", 1)
      >>> net = js.transform_with_state(count)
      >>> params, state = net.init(0)
      >>> out, state = net.apply(params, state, None)
      >>> print(out)
      1
      >>> state
      Params({'calls': int32[]})
    """


def transform(
    fn: Callable[P, R],
) -> Transformed[Concatenate[NestedMapping, Rng, P], P, R]:
    """Makes pure functions of ``fn``, a function that calls ``get_variable``.

    The call shapes are Haiku's. All three may be called inside any JAX transform, inside each
    other, and from several threads. ``init`` runs ``fn`` once under abstract evaluation, without a
    FLOP, and then samples each variable from ``rng`` and the variable's full name alone, so that
    other variables and their order never change its value.

    Args:
      fn: A function of arrays and other values that calls ``get_variable``.

    Returns:
      A Transformed: ``init(rng, ...)``, ``apply(params, rng, ...)`` and ``specs(...)``. ``rng`` is
      a key, an int seed or None; ``params`` any nested mapping of arrays, of which extra names are
      ignored.

    Raises:
      ArgumentError: (ValueError, TypeError) ``fn`` is not callable.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def net(x):
      ...     with js.variable_scope("dense"):
      ...         return x @ js.get_variable("kernel", [x.shape[-1], 4])
      >>> init, apply = js.transform(net)
      >>> params = init(jax.random.key(0), jnp.ones([2, 3]))
      >>> params
      Params({'dense': {'kernel': float32[3,4]}})
      >>> jax.jit(apply)(params, None, jnp.ones([2, 3])).shape
      (2, 4)
    """
    _check_function("transform", fn)
    return _transformed(fn, _Setting(), (transform, (fn,)))


def _transformed(
    fn: Callable[P, R], setting: _Setting, maker: tuple[Function, tuple[object, ...]]
) -> Transformed[Concatenate[NestedMapping, Rng, P], P, R]:
    @_jaxapi.entry
    def init(rng: Rng, /, *args: P.args, **kwargs: P.kwargs) -> Params:
        with setting():
            return _initialize(fn, as_key(rng), args, kwargs, setting, has_state=False)[0]

    @_jaxapi.entry
    def apply(params: Mapping[str, Any], rng: Rng, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return _apply(fn, (params,), rng, args, kwargs)[0]

    @_jaxapi.entry
    def specs(*args: P.args, **kwargs: P.kwargs) -> Specs:
        with setting():
            return _specs(fn, args, kwargs, setting, has_state=False)

    _signature.show(fn, init, apply, specs)
    return Transformed(init, apply, specs, maker)


def transform_with_state(
    fn: Callable[P, R],
) -> TransformedWithState[Concatenate[NestedMapping, NestedMapping, Rng, P], P, tuple[R, Params]]:
    """Makes pure functions of ``fn``, which may also make variables that are not trainable.

    Variables with ``trainable=False`` live in a second tree, ``state``, which ``fn`` changes by
    ``jscope.assign``. ``init`` returns initial values: what is assigned while initializing is
    checked, and dropped.

    All else as in ``transform``.

    Returns:
      A TransformedWithState: ``init(rng, ...) -> (params, state)``,
      ``apply(params, state, rng, ...) -> (out, new_state)`` and ``specs(...)``. ``new_state`` has
      the names, shapes and dtypes of ``state``, and the same arrays where nothing was assigned.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def centered(x):
      ...     zeros = jax.nn.initializers.zeros
      ...     mean = js.get_variable("mean", [3], initializer=zeros, trainable=False)
      ...     js.assign_moving_average("mean", x.mean(0), decay=0.5)
      ...     return x - mean
      >>> net = js.transform_with_state(centered)
      >>> params, state = net.init(0, jnp.ones([2, 3]))
      >>> out, state = net.apply(params, state, None, jnp.ones([2, 3]))
      >>> state["mean"].tolist()
      [0.5, 0.5, 0.5]
    """
    _check_function("transform_with_state", fn)
    return _transformed_with_state(fn, _Setting(), (transform_with_state, (fn,)))


def _transformed_with_state(
    fn: Callable[P, R], setting: _Setting, maker: tuple[Function, tuple[object, ...]]
) -> TransformedWithState[Concatenate[NestedMapping, NestedMapping, Rng, P], P, tuple[R, Params]]:
    @_jaxapi.entry
    def init(rng: Rng, /, *args: P.args, **kwargs: P.kwargs) -> tuple[Params, Params]:
        with setting():
            return _initialize(fn, as_key(rng), args, kwargs, setting, has_state=True)

    @_jaxapi.entry
    def apply(
        params: Mapping[str, Any],
        state: Mapping[str, Any],
        rng: Rng,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> tuple[R, Params]:
        out, assigned = _apply(fn, (params, state), rng, args, kwargs)
        return out, _new_state(state, assigned)

    @_jaxapi.entry
    def specs(*args: P.args, **kwargs: P.kwargs) -> Specs:
        with setting():
            return _specs(fn, args, kwargs, setting, has_state=True)

    _signature.show(fn, init, apply, specs)
    return TransformedWithState(init, apply, specs, maker)


def _apply(
    fn: Callable[..., R], given: tuple[Any, ...], rng: Rng, args: Any, kwargs: Any
) -> tuple[R, Mapping[str, Any]]:
    """What ``fn`` returns, and what it assigns, with the params, or params and state, given.

    Raises TransformError if JAX left out code that numbers scopes or draws keys: under
    ``jax.disable_jit``, and in an eager ``platform_dependent``, JAX runs one branch alone. Names
    and keys after it would be others than in the compiled function: compare with that.
    """

    def start(given: tuple[Any, ...], rng: Rng) -> Pass:
        return Pass(Given(*given, has_state=len(given) > 1), _root(), as_key(rng))

    running = start(given, rng)
    recorded = connect(running)
    failed: JscopeError | None = None
    try:
        out: R = _pass.run(running, fn, args, kwargs)
    except JscopeError as error:  # of a variable that is taken for another one, perhaps
        if not _jaxapi.is_jit_disabled():
            raise
        failed = error
    if recorded is not None:
        recorded.update(running.level.recorded)
    may_skip = _jaxapi.is_jit_disabled() or running.calls.skips
    counted = running.numbering.numbered or running.level.keys.counts
    if not may_skip or (failed is None and not counted):
        return out, running.level.values

    def whole(given: tuple[Any, ...], rng: Rng, args: Any, kwargs: Any) -> Any:
        compiled = start(given, rng)
        _pass.run(compiled, fn, args, kwargs)
        return compiled.numbering.numbered, compiled.level.keys.counts

    numbered, counts = abstractly(whole, given, rng, args, kwargs)
    missing = numbered - running.numbering.numbered
    if missing or counts != running.level.keys.counts:
        raise _skipped(sorted(missing)) from failed
    if failed is not None:
        raise failed
    return out, running.level.values


def _skipped(names: Sequence[str]) -> TransformError:
    what = f"scopes were numbered without {', '.join(names)}" if names else "keys were skipped"
    return TransformError(
        "Names or keys would be other than in the compiled function: JAX ran one branch of a "
        f"cond or switch alone, or a loop not once, so that {what}.",
        {
            "fix": "give scopes names of their own, use jscope.cond and jscope.switch, or run "
            "it compiled: under jax.jit, without jax.disable_jit.",
        },
        names=tuple(names),
    )


def _check_function(transformer: str, fn: object) -> None:
    if not callable(fn):
        raise bad_argument(f"argument of {transformer}", fn, "a function")


def _new_state(state: NestedMapping, assigned: NestedMapping) -> Params:
    given = state if isinstance(state, Params) else Params(state)
    if not assigned:
        return given
    return wrap(grow((path, assigned.get("/".join(path), leaf)) for path, leaf in walk(given)))


# The one with state first: mypy takes both for any pair that fits.
@overload
def without_apply_rng(
    net: TransformedWithState[Concatenate[NestedMapping, NestedMapping, Rng, A], P, R],
) -> TransformedWithState[Concatenate[NestedMapping, NestedMapping, A], P, R]: ...
@overload
def without_apply_rng(
    net: Transformed[Concatenate[NestedMapping, Rng, A], P, R],
) -> Transformed[Concatenate[NestedMapping, A], P, R]: ...
def without_apply_rng(net: object) -> object:
    """The same network, whose ``apply`` takes no ``rng``: ``apply(params, *args, **kwargs)``.

    Args:
      net: Of ``transform`` or ``transform_with_state``; the latter's ``apply`` becomes
        ``apply(params, state, *args, **kwargs)``.

    Returns:
      The same kind of network with the same ``init`` and ``specs``.

    Raises:
      ArgumentError: (ValueError, TypeError) ``net`` is not what these return.

    Example:
      >>> import jscope as js
      >>> net = js.without_apply_rng(js.transform(lambda: js.get_variable("w", [2])))
      >>> net.apply(net.init(0)).shape
      (2,)
    """
    if not isinstance(net, _Network):
        raise bad_argument("argument of without_apply_rng", net, "what transform returns")
    inner = net.apply
    maker = without_apply_rng, (net,)
    if isinstance(net, TransformedWithState):

        @_jaxapi.entry
        def apply_with_state(
            params: Mapping[str, Any], state: Mapping[str, Any], /, *args: PyTree, **kwargs: PyTree
        ) -> PyTree:
            return inner(params, state, None, *args, **kwargs)

        _signature.show_without(apply_with_state, inner, 2)
        return TransformedWithState(net.init, apply_with_state, net.specs, maker)

    @_jaxapi.entry
    def apply(params: Mapping[str, Any], /, *args: PyTree, **kwargs: PyTree) -> PyTree:
        return inner(params, None, *args, **kwargs)

    _signature.show_without(apply, inner, 1)
    return Transformed(net.init, apply, net.specs, maker)


def sharded(net: Net, rules: Rules, mesh: jax.sharding.Mesh | None = None) -> Net:
    """The same network, whose variables are laid out over a mesh by rules.

    ``init`` makes each array with its sharding, under ``jax.set_mesh(mesh)`` or on the ``mesh``
    given here: no device holds a whole array that is divided, and values are those without a mesh.
    ``specs`` carry the layouts, so ``specs.shardings(mesh)`` and ``specs.params(mesh)`` say what to
    give to ``jax.jit``, orbax or ``jscope.restore``. ``apply`` is the same.

    Args:
      net: Of ``transform`` or ``transform_with_state``. Rules that it has already are replaced.
      rules: Of ``jscope.sharding_rules``.
      mesh: The mesh of ``init`` and ``specs``; else the one that ``jax.set_mesh`` has set there.
        Without any, arrays are made as without rules, on one device, and only the rules themselves
        are checked. Inside ``jax.jit`` and ``jax.grad``, JAX asks for ``jax.set_mesh`` around them
        where the mesh has explicit axes.

    Returns:
      The same kind of network.

    Raises:
      ArgumentError: (ValueError, TypeError) an argument is something else.
      ShardingError: (ValueError) from ``init`` and ``specs``: a variable that nothing lays out, a
        rule that takes nothing, a mesh axis that is used twice or is not there, a size that does
        not divide; all of them at once.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> from jax.sharding import PartitionSpec as P
      >>> rules = js.sharding_rules({"**/kernel": P(None, "model")}, default=P())
      >>> net = js.sharded(js.transform(lambda x: js.layers.dense(x, 4)), rules)
      >>> with jax.set_mesh(jax.make_mesh((1,), ("model",))):
      ...     params = net.init(jax.random.key(0), jnp.ones([1, 2]))
      >>> params["dense"]["kernel"].sharding.spec == P(None, "model")
      True
    """
    if not isinstance(net, _Network):
        raise bad_argument("argument of sharded", net, "what transform returns")
    if not isinstance(rules, Rules):
        fix = "give jscope.sharding_rules({pattern: layout, ...})."
        raise bad_argument("rules", rules, "what jscope.sharding_rules returns", fix)
    if mesh is not None and not isinstance(mesh, jax.sharding.Mesh):
        fix = "without devices, ask for specs.params(mesh) of an AbstractMesh."
        raise bad_argument("mesh", mesh, "a jax.sharding.Mesh or None", fix)
    divided: Net = _sharded(net, _Setting(rules, mesh))
    return divided


def _sharded(net: Any, setting: _Setting) -> Any:
    maker, (fn, *_) = net._maker
    if maker is without_apply_rng:
        return without_apply_rng(_sharded(fn, setting))
    if maker is sharded:
        return _sharded(fn, setting)
    build = _transformed if maker is transform else _transformed_with_state
    return build(fn, setting, (sharded, (net, *setting)))


def _root() -> VariableScope:
    return VariableScope()


def _split(
    args: Args, kwargs: Kwargs
) -> tuple[list[jax.Array], Callable[[Sequence[jax.Array]], tuple[Args, Kwargs]]]:
    """The arrays among the arguments, and a function that puts others in their place."""
    leaves, treedef = jax.tree.flatten((args, kwargs), is_specs)
    places = [index for index, leaf in enumerate(leaves) if is_array(leaf)]

    def merge(arrays: Sequence[jax.Array]) -> tuple[Args, Kwargs]:
        merged = list(leaves)
        for place, array in zip(places, arrays, strict=True):
            merged[place] = array
        call: tuple[Args, Kwargs] = jax.tree.unflatten(treedef, merged)
        return call

    return [leaves[place] for place in places], merge


def _any_key() -> jax.Array:
    return jax.random.key(0)


class _Abstract(NamedTuple):
    """What a run without values found out."""

    specs: tuple[VariableSpec, ...]
    starts: dict[str, Start]
    """Name -> program or constant; none for those computed in the function."""


def _abstract(
    fn: Function,
    key: Callable[[], jax.Array | None],
    args: Args,
    kwargs: Kwargs,
    setting: _Setting,
    *,
    has_state: bool,
) -> _Abstract:
    """Runs ``fn`` once without computing anything."""

    def facts(args: Args, kwargs: Kwargs) -> _Abstract:
        running = _blank(setting, key(), has_state=has_state)
        _, specs = _find_specs(running, fn, args, kwargs)
        starts = {x.name: x.start for x in running.records.values() if not x.is_computed}
        return _Abstract(specs, starts)

    return abstractly(facts, args, kwargs)


def _blank(setting: _Setting, key: jax.Array | None, *, has_state: bool) -> Pass:
    """A pass without values."""
    return Pass(Blank(has_state, setting.rules), _root(), key)


def _find_specs(
    running: Pass, fn: Function, args: Args, kwargs: Kwargs
) -> tuple[PyTree, tuple[VariableSpec, ...]]:
    """What ``fn`` returns in a pass without values, and the variables that it makes."""
    out = _pass.run(running, fn, args, kwargs)
    specs = running.specs()
    assert running.values.layout is not None
    running.values.layout.check(specs)
    return out, specs


def abstractly(run: Callable[..., T], *given: PyTree) -> T:
    """What ``run`` finds out, which is no array, without computing anything."""
    arrays, merge = _split(given, {})
    found: list[T] = []

    def trace(arrays: Sequence[jax.Array]) -> None:
        found.append(run(*merge(arrays)[0]))

    with jax.disable_jit(False):  # under which JAX leaves out branches and loop bodies
        jax.eval_shape(trace, arrays)
    return found[-1]


def observe(
    net: PyTree, watch: Callable[[Pass], None], args: Args, kwargs: Kwargs
) -> tuple[str, Specs, _jaxapi.Jaxpr]:
    """The name of a network's function, its specs, and what it computes, of one watched run.

    The run is that of ``specs``; ``watch`` is given the pass before it starts.
    """
    fn, setting, has_state = _source(net)
    arrays, merge = _split(args, kwargs)
    found: list[Specs] = []

    def trace(arrays: Sequence[jax.Array]) -> list[jax.Array]:
        args, kwargs = merge(arrays)
        running = _blank(setting, _any_key(), has_state=has_state)
        watch(running)
        out, specs = _find_specs(running, fn, args, kwargs)
        found.append(Specs(specs))
        return [leaf for leaf in jax.tree.leaves(out, is_leaf=is_specs) if is_array(leaf)]

    with setting(), jax.disable_jit(False):
        jaxpr = jax.make_jaxpr(trace)(arrays)
    named: object = fn.func if isinstance(fn, functools.partial) else fn
    return getattr(named, "__name__", type(named).__name__), found[-1], jaxpr


def _source(net: _Network[..., Any, Any, Any]) -> tuple[Function, _Setting, bool]:
    """What a network was made of: its function, how it is laid out, whether it has state."""
    maker: Function
    fn: Any
    maker, (fn, *more) = net._maker
    if maker is transform or maker is transform_with_state:
        return fn, _Setting(), maker is transform_with_state
    inner, setting, has_state = _source(fn)
    return inner, _Setting(*more) if maker is sharded else setting, has_state  # type: ignore[arg-type]


def is_network(thing: object) -> bool:
    """Whether it is what ``transform`` returns."""
    return isinstance(thing, _Network)


def _specs(
    fn: Function, args: Args, kwargs: Kwargs, setting: _Setting, *, has_state: bool
) -> Specs:
    return Specs(_abstract(fn, _any_key, args, kwargs, setting, has_state=has_state)[0])


def _initialize(
    fn: Function,
    key: jax.Array | None,
    args: Args,
    kwargs: Kwargs,
    setting: _Setting,
    *,
    has_state: bool,
) -> tuple[Params, Params]:
    """Initial values: those of the trainable variables, and the others."""
    with jax.disable_jit(False):
        specs, values = _initial_values(fn, key, args, kwargs, setting, has_state=has_state)
    params, state = (
        params_of((s.name, values[s.name]) for s in specs if s.trainable is kind)
        for kind in (True, False)
    )
    return params, state


def _initial_values(
    fn: Function,
    key: jax.Array | None,
    args: Args,
    kwargs: Kwargs,
    setting: _Setting,
    *,
    has_state: bool,
) -> tuple[Sequence[VariableSpec], dict[str, jax.Array]]:
    specs, starts = _abstract(fn, lambda: key, args, kwargs, setting, has_state=has_state)
    with _pass.no_pass():
        check_starts(_jaxapi.concrete_mesh(), key, specs, starts)
        sample = Sampler(key, setting.mesh)
        values = {
            spec.name: sample(spec, starts[spec.name]) for spec in specs if spec.name in starts
        }
    if len(values) < len(specs):
        values |= _computed(fn, specs, values, key, args, kwargs, setting)
    return specs, values


def _computed(
    fn: Function,
    specs: Sequence[VariableSpec],
    sampled: dict[str, jax.Array],
    key: jax.Array | None,
    args: Args,
    kwargs: Kwargs,
    setting: _Setting,
) -> dict[str, jax.Array]:
    """The initial values that the function computes itself, in order, on the real arguments.

    Runs ``fn`` again with the other variables at their initial values, and computes only what these
    values depend on.
    """
    wanted = [spec for spec in specs if spec.name not in sampled]
    arrays, merge = _split(args, kwargs)
    given = params_of(sampled.items())

    def trace(arrays: Sequence[jax.Array], given: Params) -> list[jax.Array]:
        values = Replay(given, key, *setting)
        args, kwargs = merge(arrays)
        _pass.run(Pass(values, _root(), key), fn, args, kwargs)
        missing = [spec.name for spec in wanted if spec.name not in values.computed]
        if missing:
            raise _unstable(missing[0])
        return [values.computed[spec.name] for spec in wanted]

    traced = jax.make_jaxpr(trace)(arrays, given)
    for index, spec in enumerate(wanted):
        used = _jaxapi.used_inputs(traced, index)[: len(arrays)]
        for array, path, needed in zip(arrays, _places(args, kwargs), used, strict=True):
            if needed and isinstance(array, jax.ShapeDtypeStruct):
                raise _needs_data(spec.name, path, spec.sites)
    compute, used_all = _jaxapi.prune(traced)
    inputs = zip([*arrays, *jax.tree.leaves(given)], used_all, strict=True)
    used_inputs = [x for x, used in inputs if used]
    with _pass.no_pass():
        mesh = _jaxapi.concrete_mesh()
        check_arguments(mesh, used_inputs)
        found = jax.jit(compute)(*used_inputs)
        if mesh is not None:  # to the letter: on mixed meshes JAX has the axes in its own order
            places = [NamedSharding(mesh, spec.partition or PartitionSpec()) for spec in wanted]
            found = jax.device_put(found, places)
    return {spec.name: value for spec, value in zip(wanted, found, strict=True)}


def _unstable(name: str) -> InitializerError:
    return initializer_error(
        InitializerError,
        f"The function did not make variable {name} again when it was run a second time to "
        "compute initial values.",
        name,
        (),
        "make the function pure: the same calls for the same arguments.",
    )


def _needs_data(name: str, argument: str, sites: tuple[Site, ...]) -> InitializerError:
    return initializer_error(
        InitializerError,
        f"The initial value of variable {name} is computed from the argument {argument}, which "
        "was given as a jax.ShapeDtypeStruct.",
        name,
        sites,
        "pass a real array for it to init.",
    )


def _places(args: Args, kwargs: Kwargs) -> list[str]:
    """Readable paths of the arrays among the arguments: ``args[0]['x']``."""
    leaves, _ = jax.tree_util.tree_flatten_with_path((args, kwargs), is_specs)
    return [
        ("args", "kwargs")[path[0].idx] + jax.tree_util.keystr(path[1:])
        for path, leaf in leaves
        if is_array(leaf)
    ]
