"""What tests of users want."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import jax

from jscope import _pass
from jscope._hints import watch
from jscope._hlo import canonical
from jscope._once import Once
from jscope._params import PyTree
from jscope._report import array_type, near_names, quoted, where
from jscope._spec import Function, Specs, VariableSpec
from jscope._transform import Transformed, TransformedWithState, abstractly
from jscope.errors import Site

__all__ = [
    "assert_no_open_scope",
    "assert_same_program",
    "assert_same_sites",
    "assert_specs_equal",
    "assert_traced_once",
]


def __dir__() -> list[str]:
    return __all__


watch(__name__)


def assert_traced_once(
    net: Transformed[..., ..., PyTree] | TransformedWithState[..., ..., PyTree],
    block: Function,
    /,
    *args: PyTree,
    **kwargs: PyTree,
) -> None:
    """Asserts that a network traces a function of ``jscope.jit`` or ``jscope.checkpoint`` once.

    Runs ``net.specs`` and ``net.apply`` without computing anything. In each the function may run
    twice, to be planned and to be traced, in however many scopes it is called. More often it runs
    for other shapes, dtypes, static arguments or flags, and where it depends on its scope.

    Args:
      net: Of ``jscope.transform`` or ``transform_with_state``; its ``apply`` takes an ``rng``.
      block: What ``jscope.jit`` or ``jscope.checkpoint`` returned.
      *args: Of the network; arrays may be ``jax.ShapeDtypeStruct``.
      **kwargs: Of the network.

    Raises:
      AssertionError: It was run more often, which the text explains, or not called.
      TypeError: ``block`` is not such a function.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> from jscope.testing import assert_traced_once
      >>> layer = js.checkpoint(lambda x: js.layers.dense(x, 3))
      >>> def model(x):
      ...     for i in range(12):
      ...         with js.variable_scope(f"layer_{i}"):
      ...             x = layer(x)
      ...     return x
      >>> assert_traced_once(js.transform(model), layer, jnp.ones([2, 3]))
    """
    once = getattr(block, "__jscope_once__", None)
    if not isinstance(once, Once):
        raise TypeError("block must be what jscope.jit or jscope.checkpoint returned.")
    specs = net.specs(*args, **kwargs)
    given = [specs.params()]
    if isinstance(net, TransformedWithState):
        given.append(specs.state())
    key = jax.random.key(0)

    def apply(given: PyTree, args: PyTree, kwargs: PyTree) -> None:
        net.apply(*given, key, *args, **kwargs)

    for name, run in (
        ("specs", lambda: net.specs(*args, **kwargs)),
        ("apply", lambda: abstractly(apply, given, args, kwargs)),
    ):
        runs, calls, once.reason = once.runs, once.calls, None
        run()
        runs, calls = once.runs - runs, once.calls - calls
        reason = once.reason or ("its calls differ in shapes, dtypes, static arguments or flags")
        assert calls, f"net.{name} does not call the block."
        assert runs <= 2, (
            f"In net.{name} the block was run {runs} times in {calls} calls: {reason}."
        )


def assert_specs_equal(specs: Specs, expected: Specs) -> None:
    """Asserts that two functions make the same variables, in the same order.

    Compares names, shapes, dtypes, ``trainable``, collections, regularizers, constraints,
    partitions and stacked axes; not initializers, which are often made anew, and not sites.

    Args:
      specs: Of one net, ``net.specs(...)``.
      expected: Of the other.

    Raises:
      AssertionError: They differ; the text shows every line that does.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> from jscope.testing import assert_specs_equal
      >>> x = jnp.ones([2, 3])
      >>> by_hand = js.transform(lambda x: x @ js.get_variable("dense/kernel", [3, 4]))
      >>> by_layer = js.transform(lambda x: js.layers.dense(x, 4, use_bias=False))
      >>> assert_specs_equal(by_layer.specs(x), by_hand.specs(x))
    """
    found, wanted = (list(map(_facts, each.values())) for each in (specs, expected))
    if found != wanted:
        diff = difflib.ndiff(list(map(_line, wanted)), list(map(_line, found)))
        lines = [line for line in diff if not line.startswith("?")]
        raise AssertionError("The specs differ (- expected, + found):\n" + "\n".join(lines))


def _facts(spec: VariableSpec) -> tuple[Any, ...]:
    return (
        spec.name,
        spec.shape,
        spec.dtype,
        spec.trainable,
        spec.collections,
        spec.regularizer,
        spec.constraint,
        spec.partition,
        spec.stack,
    )


def _line(facts: tuple[Any, ...]) -> str:
    name, shape, dtype, trainable, *others = facts
    shown = [f"{name} {array_type(shape, dtype)}"]
    shown += [] if trainable else ["not trainable"]
    shown += [str(other) for other in others if other not in (None, ())]
    return ", ".join(shown)


def assert_same_sites(part: Specs, whole: Specs) -> None:
    """Asserts that trainable variables of equal names are made by the same code in two nets.

    Several functions over one tree have to ask for the same variables by the same names. A
    numbered scope counts what was opened in its own pass, so a decoder without a scope of its own
    may take the encoder's layers when it is run alone, and all shapes fit. Compares ``spec.sites``,
    from the innermost line outwards; who called the entry point may differ.

    Args:
      part: Of the net of one entry point.
      whole: Of the net that the tree is made by.

    Raises:
      AssertionError: A name of ``part`` is not in ``whole``, or another one is made there by more
        of the same lines.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> from jscope.testing import assert_same_sites
      >>> def encode(x):
      ...     with js.variable_scope("encoder"):
      ...         return js.layers.dense(x, 4)
      >>> def autoencode(x):
      ...     z = encode(x)
      ...     with js.variable_scope("decoder"):
      ...         return js.layers.dense(z, 3)
      >>> x = jnp.ones([2, 3])
      >>> assert_same_sites(js.transform(encode).specs(x), js.transform(autoencode).specs(x))
    """
    for name, spec in part.items():
        if not spec.trainable:
            continue
        near = quoted(near_names(name, whole)) or "nothing"
        assert name in whole, f"{name} is not in the whole; near: {near}."
        common = {other: _common(spec.sites, there.sites) for other, there in whole.items()}
        most = max(common.values())
        mine, theirs = (where(each[name].sites) for each in (part, whole))
        assert 0 < most == common[name], (
            f"{name} is made at {mine}, and in the whole at {theirs}: give each entry point a "
            "scope of its own."
        )


def _common(mine: Sequence[Site], theirs: Sequence[Site]) -> int:
    """How many frames are the same, from the innermost outwards."""
    count = 0
    for one, other in zip(mine, theirs, strict=False):
        if one != other:
            break
        count += 1
    return count


def assert_same_program(f: Function, g: Function, /, *args: PyTree, **kwargs: PyTree) -> None:
    """Asserts that XLA makes the same program of two functions.

    Compares optimized HLO, without names and metadata. So nothing of scopes remains at run time
    if a network and the hand-written function of its params are the same program.

    Args:
      f: The one function.
      g: The other.
      *args: Of both; arrays may be ``jax.ShapeDtypeStruct``.
      **kwargs: Of both.

    Raises:
      AssertionError: The programs differ; the text shows where.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> from jscope.testing import assert_same_program
      >>> net = js.without_apply_rng(js.transform(lambda x: x @ js.get_variable("w", [3, 3])))
      >>> x = jnp.ones([2, 3])
      >>> assert_same_program(net.apply, lambda params, x: x @ params["w"], net.init(0, x), x)
    """
    one, other = (
        canonical(jax.jit(each).lower(*args, **kwargs).compile().as_text() or "") for each in (f, g)
    )
    if one != other:
        lines = difflib.unified_diff(one, other, "f", "g", lineterm="", n=1)
        raise AssertionError("The programs differ:\n" + "\n".join(lines))


def assert_no_open_scope() -> None:
    """Asserts that no pass is running in this thread, so that no scope is open.

    To be called after each test. Scopes and passes close by themselves on every exception; what
    can stay open is a generator that was left inside a scope.

    Raises:
      AssertionError: One runs; the text says in which scope.

    Example:
      >>> from jscope.testing import assert_no_open_scope
      >>> assert_no_open_scope()
    """
    running = _pass.peek()
    assert running is None, f"A pass is running, with the scope {running.prefix!r} open."
