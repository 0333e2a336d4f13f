"""What tests of users want."""

from __future__ import annotations

import jax

from jscope._hints import watch
from jscope._once import Once
from jscope._params import PyTree
from jscope._spec import Function
from jscope._transform import Transformed, TransformedWithState, abstractly

__all__ = ["assert_traced_once"]


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
