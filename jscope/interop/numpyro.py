"""Nets inside models of NumPyro: one site for each variable, under its full name."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp

from jscope._arguments import bad_argument, can_call
from jscope._hints import watch
from jscope._names import check_name, join, not_text
from jscope._params import Params, params_of
from jscope._report import brief
from jscope._spec import Shape, VariableSpec
from jscope._transform import Transformed, TransformedWithState, without_apply_rng
from jscope.errors import ArgumentError, RngError, StateError
from jscope.tree._names import flatten
from jscope.tree._patterns import claim

__all__ = ["module", "random_module"]


def __dir__() -> list[str]:
    return __all__


watch(__name__)

Net: TypeAlias = "Transformed[..., ..., Any] | TransformedWithState[..., ..., Any]"

Distribution: TypeAlias = Any
"""A distribution of NumPyro, whose types are not known where it is not installed."""

Prior: TypeAlias = Distribution | Callable[[Shape], Distribution]
"""The distribution of a variable, or a function of the variable's shape that gives it."""


def module(name: str, net: Net, *args: Any, **kwargs: Any) -> Callable[..., Any]:
    """Makes a ``numpyro.param`` of each variable of a net, in a model.

    Their sites are called ``name/encoder/w``. A site that no handler gives a value gets its initial
    one, of ``net.init`` with the key of ``numpyro.prng_key()``. A net with state keeps it in the
    mutable site ``name$state``, which each call updates, as NumPyro's own modules do; SVI passes
    it on, MCMC does not take it.

    Args:
      name: What the sites' names start with.
      net: What ``jscope.transform`` or ``jscope.transform_with_state`` returned.
      *args: Arguments of the net; of arrays only shape and dtype matter.
      **kwargs: The same.

    Returns:
      ``f(*args, rng=None, **kwargs) -> out``, the net with these params; ``rng`` for nets that
      draw, such as those with dropout: ``rng=numpyro.prng_key()``.

    Raises:
      ArgumentError: (ValueError, TypeError) ``net`` is not what these return.
      RngError: (ValueError) an initial value is wanted and there is no key: the model runs outside
        ``numpyro.handlers.seed`` and outside of inference.
      StateError: (ValueError) a handler gives params and not the state that belongs to them.
      InvalidNameError: (ValueError) ``name`` is no name.
      ImportError: NumPyro is not installed.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpyro
      >>> import jscope as js
      >>> net = js.transform(lambda x: js.layers.dense(x, 1))
      >>> def model(x):
      ...     return js.interop.numpyro.module("net", net, x)(x)
      >>> seeded = numpyro.handlers.seed(model, 0)
      >>> sites = numpyro.handlers.trace(seeded).get_trace(jnp.ones([2, 3]))
      >>> sorted(name for name, site in sites.items() if site["type"] == "param")
      ['net/dense/bias', 'net/dense/kernel']
    """
    return _bind(name, net, {}, args, kwargs)


def random_module(
    name: str, net: Net, prior: Prior | Mapping[Any, Prior], *args: Any, **kwargs: Any
) -> Callable[..., Any]:
    """Makes a ``numpyro.sample`` of each variable of a net that a prior covers, in a model.

    As ``module``, with:
      prior: Distribution of NumPyro for each element of each variable; or ``{pattern:
        distribution}`` with patterns of ``jscope.tree`` on full names, those without ``name``, the
        first that matches deciding, and what none matches staying a ``numpyro.param``. A
        distribution is expanded to the shape of the variable; in its place may stand a function of
        the shape that gives one.

    Raises:
      ArgumentError: (ValueError, TypeError) ``net`` is not what these return, or a prior is no
        distribution, or none of the shape of a variable.
      EmptySelectionError: (ValueError) a pattern selects nothing, or nothing that those before it
        leave.
      RngError: (ValueError) an initial value is wanted and there is no key. Where only samples are
        wanted, NumPyro's own AssertionError says so.
      StateError: (ValueError) a handler gives params and not the state that belongs to them.
      InvalidNameError: (ValueError) ``name`` is no name.
      ImportError: NumPyro is not installed.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpyro
      >>> import numpyro.distributions as dist
      >>> import jscope as js
      >>> net = js.transform(lambda x: js.layers.dense(x, 1))
      >>> def model(x):
      ...     prior = {"**/kernel": dist.Normal(0.0, 0.1)}
      ...     return js.interop.numpyro.random_module("net", net, prior, x)(x)
      >>> seeded = numpyro.handlers.seed(model, 0)
      >>> sites = numpyro.handlers.trace(seeded).get_trace(jnp.ones([2, 3]))
      >>> {name: site["type"] for name, site in sites.items() if name.startswith("net/")}
      {'net/dense/bias': 'param', 'net/dense/kernel': 'sample'}
    """
    return _bind(name, net, prior, args, kwargs)


def _bind(
    name: str, net: Net, prior: Prior | Mapping[Any, Prior], args: Any, kwargs: Any
) -> Callable[..., Any]:
    """The net with the values that its sites hold."""
    numpyro = _import()
    if not isinstance(name, str):
        raise not_text("name", name)
    check_name(name, "scope")
    net = _with_rng(net)
    specs = [spec for spec in net.specs(*args, **kwargs).values() if spec.trainable]
    priors = _priors(prior, specs, numpyro.distributions.Distribution)
    sites = {spec.name: join(name, spec.name) for spec in specs}
    given = {x: numpyro.param(site) for x, site in sites.items() if x not in priors}
    initial = functools.cache(lambda: _initial(name, net, args, kwargs, numpyro))

    def value(spec: VariableSpec) -> jax.Array:
        site = sites[spec.name]
        if spec.name in priors:
            return jnp.asarray(numpyro.sample(site, priors[spec.name]), spec.dtype)
        found: jax.Array = given[spec.name]
        return numpyro.param(site, initial()[0][spec.name]) if found is None else found

    params = params_of((spec.name, value(spec)) for spec in specs)
    if not isinstance(net, TransformedWithState):
        return lambda *args, rng=None, **kwargs: net.apply(params, rng, *args, **kwargs)
    site = f"{name}$state"
    kept = numpyro.primitives.mutable(site)
    if kept is None and any(found is not None for found in given.values()):
        raise _no_state(name, site)
    kept = kept or numpyro.primitives.mutable(site, {"state": initial()[1]})
    return functools.partial(_apply, net, params, kept)


def _initial(
    name: str, net: Net, args: Any, kwargs: Any, numpyro: Any
) -> tuple[dict[str, Any], Params]:
    """Initial values: params by full name, and state."""
    key = numpyro.prng_key()
    if key is None:
        raise _no_key(name)
    made: Any = net.init(key, *args, **kwargs)
    params, state = made if isinstance(net, TransformedWithState) else (made, Params())
    return flatten(params), state


def _apply(
    net: TransformedWithState[..., ..., Any],
    params: Params,
    kept: dict[str, Params],
    /,
    *args: Any,
    rng: Any = None,
    **kwargs: Any,
) -> Any:
    """The output, with the new state in ``kept``."""
    out, state = net.apply(params, kept["state"], rng, *args, **kwargs)
    kept["state"] = jax.lax.stop_gradient(state)
    return out


def _import() -> Any:
    try:
        return importlib.import_module("numpyro")
    except ImportError as error:
        raise ImportError(
            "jscope.interop.numpyro needs NumPyro: pip install 'jscope-jax[numpyro]'."
        ) from error


def _with_rng(net: Net) -> Net:
    """The net whose apply takes a key, as all do without ``without_apply_rng``."""
    if not isinstance(net, Transformed | TransformedWithState):
        raise bad_argument("net", net, "what jscope.transform returned")
    maker, given = net._maker
    return cast(Net, given[0]) if maker is without_apply_rng else net


def _priors(
    prior: Prior | Mapping[Any, Prior], specs: Sequence[VariableSpec], kind: type
) -> dict[str, Distribution]:
    """The distribution of each variable that has one, in its shape."""
    rules = prior if isinstance(prior, Mapping) else {"": prior}  # the root holds all
    owners = claim(list(rules), [(spec.name, spec) for spec in specs], allow_empty=None)
    choices = [*rules.values(), None]
    return {
        spec.name: _in_shape(choices[owner], spec, kind)
        for spec, owner in zip(specs, owners, strict=True)
        if owner < len(rules)
    }


def _in_shape(prior: Prior, spec: VariableSpec, kind: Any) -> Distribution:
    """The distribution of a whole variable: all of its axes are event axes."""
    made: Distribution = prior
    if not isinstance(prior, kind | type) and callable(prior) and can_call(prior, spec.shape):
        made = prior(spec.shape)
    if not isinstance(made, kind):
        raise _no_distribution(spec.name, made)
    batch = spec.shape[: len(spec.shape) - made.event_dim]
    try:
        whole = made.expand(batch).to_event(len(batch))
    except ValueError:  # of NumPyro, by shapes alone
        raise _other_shape(made, spec) from None
    if whole.event_shape != spec.shape:
        raise _other_shape(made, spec)
    return whole


def _no_distribution(name: str, found: object) -> ArgumentError:
    return bad_argument(
        f"prior of variable {name}",
        found,
        "a distribution of NumPyro, or a function (shape) -> distribution",
    )


def _other_shape(found: Distribution, spec: VariableSpec) -> ArgumentError:
    shape = (*found.batch_shape, *found.event_shape)
    return ArgumentError(
        f"The prior of variable {spec.name} is of shape {shape}, which cannot be expanded to "
        f"{spec.shape}.",
        {"fix": "give a distribution of one element, or a function (shape) -> distribution."},
        argument="prior",
        value=brief(found),
    )


def _no_key(name: str) -> RngError:
    return RngError(
        f"The net {name!r} needs a key for its initial values, and numpyro.prng_key() has none.",
        {"fix": "run the model under numpyro.handlers.seed(model, 0), or in SVI or MCMC."},
        name=name,
    )


def _no_state(name: str, site: str) -> StateError:
    return StateError(
        f"The net {name!r} was given params and no state.",
        {
            "fix": f"give the state too, as the site {site!r}: SVI has both, "
            "{**svi.get_params(svi_state), **svi_state.mutable_state}."
        },
        name=name,
    )
