"""transform: init, apply and specs of a function that makes variables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jscope import _jaxapi, _pass
from jscope._params import Params, grow, is_array, wrap
from jscope._pass import Blank, Given, Pass
from jscope._rng import Rng, as_key
from jscope._sampling import Sampler
from jscope._scope import VariableScope
from jscope._spec import Shape, Specs, VariableSpec
from jscope.errors import ArgumentError, InitializerError

P = ParamSpec("P")
R = TypeVar("R")
A = ParamSpec("A")


class Transformed(Generic[A, P, R]):
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

    __slots__ = ("_maker", "apply", "init", "specs")

    init: Callable[Concatenate[Rng, P], Params]
    apply: Callable[A, R]
    specs: Callable[P, Specs]

    def __init__(
        self,
        init: Callable[Concatenate[Rng, P], Params],
        apply: Callable[A, R],
        specs: Callable[P, Specs],
        maker: tuple[Callable[..., Any], tuple[Any, ...]],
    ) -> None:
        self.init = init
        self.apply = apply
        self.specs = specs
        self._maker = maker

    def __iter__(self) -> Iterator[Any]:
        return iter((self.init, self.apply))

    def __reduce__(self) -> Any:
        return self._maker

    def __repr__(self) -> str:
        return f"Transformed({self._maker[1][0]!r})"


def transform(
    fn: Callable[P, R],
) -> Transformed[Concatenate[Mapping[str, Any], Rng, P], P, R]:
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
    if not callable(fn):
        raise ArgumentError.make("argument of transform", fn, "a function")

    def init(rng: Rng, /, *args: P.args, **kwargs: P.kwargs) -> Params:
        key = as_key(rng)
        return _initialize(fn, key, args, kwargs)

    def apply(params: Mapping[str, Any], rng: Rng, /, *args: P.args, **kwargs: P.kwargs) -> R:
        as_key(rng)
        out: R = _pass.run(Pass(Given(params), _root()), fn, args, kwargs)
        return out

    def specs(*args: P.args, **kwargs: P.kwargs) -> Specs:
        return Specs(_abstract(fn, args, kwargs)[0])

    for function in (init, apply, specs):
        function.__doc__ = (
            f"{function.__name__} of {getattr(fn, '__qualname__', fn)}, see transform."
        )
    return Transformed(init, apply, specs, (transform, (fn,)))


def without_apply_rng(net: Any) -> Any:
    """The same network, whose ``apply`` takes no ``rng``: ``apply(params, *args, **kwargs)``.

    Args:
      net: Of ``transform``.

    Returns:
      A Transformed with the same ``init`` and ``specs``.

    Raises:
      ArgumentError: (ValueError, TypeError) ``net`` is not what ``transform`` returns.

    Example:
      >>> import jscope as js
      >>> net = js.without_apply_rng(js.transform(lambda: js.get_variable("w", [2])))
      >>> net.apply(net.init(0)).shape
      (2,)
    """
    if not isinstance(net, Transformed):
        raise ArgumentError.make("argument of without_apply_rng", net, "what transform returns")
    inner = net.apply

    def apply(params: Mapping[str, Any], /, *args: Any, **kwargs: Any) -> Any:
        return inner(params, None, *args, **kwargs)

    return Transformed(net.init, apply, net.specs, (without_apply_rng, (net,)))


def _root() -> VariableScope:
    return VariableScope()


def _split(args: Any, kwargs: Any) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
    """The arrays among the arguments, and a function that puts others in their place."""
    leaves, treedef = jax.tree.flatten((args, kwargs))
    places = [index for index, leaf in enumerate(leaves) if is_array(leaf)]

    def merge(arrays: Sequence[Any]) -> Any:
        merged = list(leaves)
        for place, array in zip(places, arrays, strict=True):
            merged[place] = array
        return jax.tree.unflatten(treedef, merged)

    return [leaves[place] for place in places], merge


def _abstract(
    fn: Callable[..., Any], args: Any, kwargs: Any
) -> tuple[tuple[VariableSpec, ...], dict[str, Any]]:
    """Runs ``fn`` once without computing anything.

    Returns what it makes, in order, and the initializers as they were when it did.
    """
    arrays, merge = _split(args, kwargs)
    found: list[tuple[tuple[VariableSpec, ...], dict[str, Any]]] = []

    def trace(arrays: Any) -> None:
        values = Blank()
        running = Pass(values, _root())
        args, kwargs = merge(arrays)
        _pass.run(running, fn, args, kwargs)
        specs = running.specs()
        concrete = {spec.name for spec in specs if spec.initializer is not None}
        initializers = {name: f for name, f in values.initializers.items() if name in concrete}
        found.append((specs, initializers))

    jax.eval_shape(trace, arrays)
    return found[-1]


def _initialize(fn: Callable[..., Any], key: jax.Array | None, args: Any, kwargs: Any) -> Params:
    specs, initializers = _abstract(fn, args, kwargs)
    with _pass.no_pass():
        sample = Sampler(key)
        values = {s.name: sample(s, initializers[s.name]) for s in specs if s.name in initializers}
    if len(values) < len(specs):
        values |= _computed(fn, specs, values, args, kwargs)
    return wrap(grow((tuple(spec.name.split("/")), values[spec.name]) for spec in specs))


class _Replay(Given):
    """Values of the second run of init: sampled ones are given, computed ones are kept."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.computed: dict[str, jax.Array] = {}

    def make(self, name: str, shape: Shape, dtype: np.dtype[Any], initializer: Any) -> Any:
        value = self.find(name)
        if value is None and isinstance(initializer, jax.Array):
            value = self.computed[name] = jnp.asarray(initializer, dtype)
        return value


def _computed(
    fn: Callable[..., Any],
    specs: Sequence[VariableSpec],
    sampled: dict[str, jax.Array],
    args: Any,
    kwargs: Any,
) -> dict[str, jax.Array]:
    """The initial values that the function computes itself, in order, on the real arguments.

    Runs ``fn`` again with the other variables at their initial values, and computes only what these
    values depend on.
    """
    wanted = [spec for spec in specs if spec.name not in sampled]
    arrays, merge = _split(args, kwargs)
    given = wrap(grow((tuple(name.split("/")), value) for name, value in sampled.items()))

    def trace(arrays: Any, given: Params) -> list[jax.Array]:
        values = _Replay(given)
        args, kwargs = merge(arrays)
        _pass.run(Pass(values, _root()), fn, args, kwargs)
        missing = [spec.name for spec in wanted if spec.name not in values.computed]
        if missing:
            raise InitializerError.unstable(missing[0])
        return [values.computed[spec.name] for spec in wanted]

    traced = jax.make_jaxpr(trace)(arrays, given)
    for index, spec in enumerate(wanted):
        used = _jaxapi.used_inputs(traced, index)[: len(arrays)]
        for array, path, needed in zip(arrays, _places(args, kwargs), used, strict=True):
            if needed and isinstance(array, jax.ShapeDtypeStruct):
                raise InitializerError.needs_data(spec.name, path, spec.sites)
    compute, used_all = _jaxapi.prune(traced)
    inputs = [*arrays, *jax.tree.leaves(given)]
    with _pass.no_pass():
        found = jax.jit(compute)(*[x for x, used in zip(inputs, used_all, strict=True) if used])
    return {spec.name: value for spec, value in zip(wanted, found, strict=True)}


def _places(args: Any, kwargs: Any) -> list[str]:
    """Readable paths of the arrays among the arguments: ``args[0]['x']``."""
    leaves, _ = jax.tree_util.tree_flatten_with_path((args, kwargs))
    return [
        ("args", "kwargs")[path[0].idx] + jax.tree_util.keystr(path[1:])
        for path, leaf in leaves
        if is_array(leaf)
    ]
