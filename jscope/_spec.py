"""Specs: what variables a function makes, before they have values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, Protocol, TypeAlias, TypeVar

import jax
import numpy as np

from jscope._layout import Mesh, shardings, show
from jscope._params import OfInstances, Params, PyTree, fold, params_of
from jscope._report import WIDTH, describe, short, some_of
from jscope.errors import Site, TreeTypeError

T = TypeVar("T")

Shape: TypeAlias = tuple[int, ...]

DType: TypeAlias = np.dtype[np.generic]
"""A dtype of NumPy; or that of typed keys, which JAX passes for one."""

Function: TypeAlias = Callable[..., Any]
"""A function whose arguments and result are the user's or JAX's to know."""
Args: TypeAlias = Sequence[PyTree]
Kwargs: TypeAlias = Mapping[str, PyTree]
"""What such a function is called with."""


class Initializer(Protocol):
    """Makes an initial value, as the functions of ``jax.nn.initializers`` do."""

    def __call__(self, key: jax.Array, shape: Shape, dtype: Any, /) -> jax.Array:
        """An array of ``shape`` and ``dtype``."""
        ...


InitializerLike: TypeAlias = Initializer | Any
"""An initializer, or a constant: an array, a number, or lists of numbers."""
Regularizer: TypeAlias = Callable[[jax.Array], jax.Array | None]
Constraint: TypeAlias = Callable[[jax.Array], jax.Array]
Partitioner: TypeAlias = Any
"""A PartitionSpec, logical axis names, or ``f(shape, dtype) -> PartitionSpec``."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class VariableSpec:
    """A variable before it has a value.

    Attributes:
      name: Full name, ``"encoder/w"``.
      shape: Tuple of sizes.
      dtype: NumPy dtype, or that of typed keys.
      trainable: Whether it lives in params; otherwise in state.
      collections: The collections that ``get_variable`` was given, as in TF1.
      initializer: ``f(key, shape, dtype)`` or a constant; None where the initial value is computed
        by the function itself.
      regularizer: Function of the value, or None.
      constraint: Function of the value, or None.
      partition: How it is laid out over a mesh, a ``PartitionSpec`` for all axes of ``shape``: by
        the rules of ``jscope.sharded``, or under a mesh by its partitioner. Else the partitioner.
      partitioner: The partitioner, as given.
      sites: Where it was made, innermost user frame first; at most five.
      stack: Leading axes of the shape that ``layer_stack`` or ``vmap(variables="split")`` added.

    Example:
      >>> import jscope as js
      >>> net = js.transform(lambda: js.get_variable("w", [3, 4]))
      >>> net.specs()["w"]
      VariableSpec('w', float32[3,4])
    """

    name: str
    shape: Shape
    dtype: DType
    trainable: bool = True
    collections: tuple[str, ...] = ()
    initializer: InitializerLike = None
    regularizer: Regularizer | None = None
    constraint: Constraint | None = None
    partition: Partitioner = None
    sites: tuple[Site, ...] = ()
    stack: Shape = ()
    partitioner: Partitioner = None

    def __repr__(self) -> str:
        extra = "" if self.trainable else ", trainable=False"
        if self.partition is not None and self.partition is not self.partitioner:
            extra += f", {show(self.partition)}"
        return f"VariableSpec({self.name!r}, {describe(self)}{extra})"


class Specs(Mapping[str, VariableSpec]):
    """Immutable mapping from full names to specs, in the order of creation.

    Example:
      >>> import jscope as js
      >>> net = js.transform(lambda: js.get_variable("net/w", [3, 4]))
      >>> specs = net.specs()
      >>> list(specs)
      ['net/w']
      >>> specs.params()
      Params({'net': {'w': float32[3,4]}})
    """

    __slots__ = ("_specs",)
    _specs: dict[str, VariableSpec]

    def __init__(self, specs: Iterable[VariableSpec] = ()) -> None:
        object.__setattr__(self, "_specs", {spec.name: spec for spec in specs})

    def __getitem__(self, name: str) -> VariableSpec:
        return self._specs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError("Specs are immutable.")

    __delattr__ = __setattr__  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = list(map(repr, self._specs.values()))
        line = f"Specs([{', '.join(shown)}])"
        if len(line) <= WIDTH:
            return line
        between = ",\n" + " " * len("Specs([")
        return f"Specs([{between.join(shown)}])"

    def __treescope_repr__(self, path: str | None, subtree_renderer: Any) -> Any:
        return fold(Specs, self._specs, path, subtree_renderer)

    @OfInstances
    def _repr_html_(self) -> str:
        from jscope import _markup  # here, because only notebooks ask for it

        return _markup.arrays("Specs", self._specs.items(), _about)

    def __reduce__(self) -> tuple[object, ...]:
        return Specs, (tuple(self._specs.values()),)

    def params(self, mesh: Mesh | None = None) -> Params:
        """Params of ``jax.ShapeDtypeStruct`` of the trainable variables.

        Args:
          mesh: Over which they are laid out, so that each struct has a sharding; none if None.

        Raises:
          ShardingError: (ValueError) some cannot be laid out so.
        """
        return self._structs(mesh, trainable=True)

    def state(self, mesh: Mesh | None = None) -> Params:
        """Params of ``jax.ShapeDtypeStruct`` of the non-trainable variables; as ``params``."""
        return self._structs(mesh, trainable=False)

    def _structs(self, mesh: Mesh | None, *, trainable: bool) -> Params:
        kept = [spec for spec in self.values() if spec.trainable is trainable]
        places = {} if mesh is None else shardings(kept, mesh)
        return params_of(
            (x.name, jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=places.get(x.name)))
            for x in kept
        )

    def shardings(self, mesh: Mesh) -> Params:
        """Params of ``jax.sharding.NamedSharding`` of the trainable variables over a mesh.

        For ``jax.jit(in_shardings=...)`` and the like. What nothing lays out is replicated.

        Args:
          mesh: A ``jax.sharding.Mesh`` or ``AbstractMesh``.

        Raises:
          ShardingError: (ValueError) some cannot be laid out so; all of them at once.
        """
        return self._shardings(mesh, trainable=True)

    def state_shardings(self, mesh: Mesh) -> Params:
        """Those of the non-trainable variables; as ``shardings``."""
        return self._shardings(mesh, trainable=False)

    def _shardings(self, mesh: Mesh, *, trainable: bool) -> Params:
        kept = [spec for spec in self.values() if spec.trainable is trainable]
        return params_of(shardings(kept, mesh).items())


def _about(spec: VariableSpec) -> str:
    """What a notebook says of a variable beside its type."""
    state = "" if spec.trainable else "state"
    laid_out = "" if spec.partition is None else show(spec.partition)
    return ", ".join(filter(None, [state, laid_out, initial(spec)]))


def initial(spec: VariableSpec) -> str:
    """The initializer of a variable, in a word."""
    return "computed" if spec.initializer is None else short(spec.initializer)


def refuse_as_tree(specs: Specs) -> NoReturn:
    raise TreeTypeError(
        "Specs are no tree of arrays.",
        {
            "specs": some_of(list(specs)),
            "fix": "give the trees of jax.ShapeDtypeStruct in them: specs.params(), and "
            "specs.state() for what is not trainable; where values are wanted, those of init.",
        },
    )


def is_specs(thing: object) -> bool:
    """Whether it is Specs, which a user's function may be given as they are."""
    return isinstance(thing, Specs)


def _never(*_: object) -> NoReturn:
    raise AssertionError  # they are never taken apart


# JAX would take them for one array, and whoever asked it for arrays would say so of that type.
jax.tree_util.register_pytree_node(Specs, refuse_as_tree, _never)


def of_layers(fn: Callable[[jax.Array], T], value: jax.Array, axes: int) -> T:
    """A regularizer or constraint, of each layer of a stacked variable by itself."""
    for _ in range(axes):  # none if negative: the open level is one layer
        fn = jax.vmap(fn)
    return fn(value)
