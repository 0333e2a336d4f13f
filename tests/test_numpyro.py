"""Nets inside models of NumPyro: a site for each variable, in SVI and in NUTS."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from child import output_of
from numpyro import handlers, infer
from sklearn.datasets import load_diabetes, load_iris

import jscope as js
from jscope import errors
from jscope.interop.numpyro import module, random_module

X = jnp.sin(jnp.arange(8.0)).reshape(2, 4)


@pytest.fixture(autouse=True)
def _as_users_have_it() -> Iterator[None]:
    """NumPyro adds numbers to vectors, and mixes dtypes."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def mlp(x: jax.Array) -> jax.Array:
    x = jnp.tanh(js.layers.dense(x, 3, name="hidden"))
    return js.layers.dense(x, 1, name="out")


def noisy(x: jax.Array) -> jax.Array:
    x = js.layers.dropout(js.layers.dense(x, 3, name="hidden"), 0.5, training=True)
    return js.layers.dense(x, 1, name="out")


def normed(x: jax.Array) -> jax.Array:
    x = js.layers.batch_normalization(x, momentum=0.5, training=True, name="norm")
    return js.layers.dense(x, 1, name="out")


NET = js.transform(mlp)
NOISY = js.transform(noisy)
NORMED = js.transform_with_state(normed)
NAMES = ["hidden/bias", "hidden/kernel", "out/bias", "out/kernel"]


def sites(model: Callable[..., Any], *args: Any) -> dict[str, Any]:
    return handlers.trace(handlers.seed(model, 0)).get_trace(*args)


def kinds(model: Callable[..., Any], *args: Any) -> dict[str, str]:
    return {
        name: site["type"]
        for name, site in sorted(sites(model, *args).items())
        if name.startswith("net")
    }


def model_of(net: Any, **options: Any) -> Callable[[jax.Array], Any]:
    return lambda x: module("net", net, x)(x, **options)


def prior_of(prior: Any, net: Any = NET) -> Callable[[jax.Array], Any]:
    return lambda x: random_module("net", net, prior, x)(x)


def test_module_makes_one_param_of_each_variable_with_the_values_of_init() -> None:
    assert kinds(model_of(NET), X) == {f"net/{name}": "param" for name in NAMES}
    with handlers.seed(rng_seed=0):
        key = numpyro.prng_key()
    params = NET.init(key, X)
    found = sites(model_of(NET), X)
    for name, value in js.tree.flatten(params).items():
        chex.assert_trees_all_equal(found[f"net/{name}"]["value"], value)


def test_the_net_computes_with_the_values_that_the_sites_hold() -> None:
    params = NET.init(7, X)
    data = {f"net/{name}": value for name, value in js.tree.flatten(params).items()}
    for model in (model_of(NET), model_of(js.without_apply_rng(NET))):
        out = handlers.substitute(model, data)(X)  # with no key: none is needed
        chex.assert_trees_all_equal(out, NET.apply(params, None, X))
    for model in (prior_of(dist.Normal()), prior_of({"**/kernel": dist.Normal()})):
        out = handlers.substitute(model, data)(X)
        chex.assert_trees_all_equal(out, NET.apply(params, None, X))


def test_the_values_that_are_not_given_are_initial_ones() -> None:
    model = handlers.seed(handlers.substitute(model_of(NET), {"net/out/bias": jnp.ones(1)}), 0)
    found = handlers.trace(model).get_trace(X)
    assert found["net/out/bias"]["value"] == 1.0
    assert jnp.any(found["net/out/kernel"]["value"] != 0.0)


def test_arguments_of_the_net_may_be_shapes_and_keywords() -> None:
    def model(x: jax.Array) -> jax.Array:
        return module("net", NET, x=jax.ShapeDtypeStruct(x.shape, x.dtype))(x=x)

    assert handlers.seed(model, 0)(X).shape == (2, 1)


def test_a_net_that_draws_is_given_a_key() -> None:
    def model(x: jax.Array) -> jax.Array:
        return module("net", NOISY, x)(x, rng=numpyro.prng_key())

    one, other = (handlers.seed(model, seed)(X) for seed in (0, 1))
    assert jnp.any(one != other)
    chex.assert_trees_all_equal(handlers.seed(model, 0)(X), one)
    with pytest.raises(errors.RngError):
        handlers.seed(model_of(NOISY), 0)(X)


PRIORS: dict[str, tuple[Any, dict[str, str]]] = {
    "one distribution": (dist.Normal(), dict.fromkeys(NAMES, "sample")),
    "a function of the shape": (
        lambda shape: dist.Normal(jnp.zeros(shape), 1.0),
        dict.fromkeys(NAMES, "sample"),
    ),
    "a pattern": (
        {"**/kernel": dist.Normal()},
        {name: "sample" if "kernel" in name else "param" for name in NAMES},
    ),
    "none": ({}, dict.fromkeys(NAMES, "param")),
}


@pytest.mark.parametrize("name", PRIORS)
def test_a_prior_makes_samples_of_what_it_covers(name: str) -> None:
    prior, wanted = PRIORS[name]
    assert kinds(prior_of(prior), X) == {f"net/{key}": kind for key, kind in wanted.items()}


def test_a_sample_is_one_event_of_the_shape_of_its_variable() -> None:
    wide = dist.MultivariateNormal(jnp.zeros(3), jnp.eye(3))
    scales = dist.Normal(jnp.zeros(3), jnp.array([1e-6, 1.0, 1e6]))
    prior = {"hidden/bias": scales, "hidden": wide, "out/bias": lambda shape: dist.Normal()}
    found = sites(prior_of(prior), X)
    for name, shape in {"hidden/bias": (3,), "hidden/kernel": (4, 3), "out/bias": (1,)}.items():
        site = found[f"net/{name}"]
        assert site["fn"].event_shape == site["value"].shape == shape
        assert site["fn"].batch_shape == ()
    assert found["net/out/kernel"]["type"] == "param"
    sizes = jnp.abs(found["net/hidden/bias"]["value"])
    assert sizes[0] < sizes[1] < sizes[2]  # the first pattern that matches decides


def test_a_sample_comes_in_the_dtype_of_its_variable() -> None:
    net = js.transform(lambda: js.get_variable("w", [3], jnp.bfloat16))
    out = handlers.seed(lambda: random_module("net", net, dist.Normal())(), 0)()
    assert out.dtype == jnp.bfloat16


@functools.cache
def diabetes() -> tuple[jax.Array, jax.Array]:
    x, y = load_diabetes(return_X_y=True)
    return jnp.float32(x / x.std(0))[:128], jnp.float32((y - y.mean()) / y.std())[:128, None]


def test_svi_trains_the_params_and_the_posterior() -> None:
    x, y = diabetes()

    def model(x: jax.Array, y: jax.Array | None = None) -> None:
        net = random_module("net", NET, {"**/kernel": dist.Normal(0.0, 0.5)}, x)
        with numpyro.plate("batch", x.shape[0]):
            numpyro.sample("y", dist.Normal(net(x), 1.0).to_event(1), obs=y)

    guide = infer.autoguide.AutoNormal(model, init_scale=0.01)
    svi = infer.SVI(model, guide, numpyro.optim.Adam(0.05), infer.Trace_ELBO())
    result = svi.run(jax.random.key(0), 150, x, y, progress_bar=False)
    assert sorted(result.params) == [
        *("net/hidden/bias", "net/hidden/kernel_auto_loc", "net/hidden/kernel_auto_scale"),
        *("net/out/bias", "net/out/kernel_auto_loc", "net/out/kernel_auto_scale"),
    ]
    assert jnp.all(result.params["net/hidden/bias"] != 0.0)
    predictive = infer.Predictive(model, guide=guide, params=result.params, num_samples=20)
    found = predictive(jax.random.key(1), x)["y"]
    assert found.shape == (20, 128, 1)
    left = jnp.square(found.mean(0) - y).mean()
    assert left < 0.7  # of a variance of one


def test_nuts_samples_each_variable() -> None:
    flowers = load_iris()
    x = jnp.float32(flowers.data[:100] / flowers.data.std(0))
    y = jnp.int32(flowers.target[:100])
    net = js.transform(lambda x: js.layers.dense(x, 1, name="out")[..., 0])

    def model(x: jax.Array, y: jax.Array) -> None:
        logits = random_module("net", net, dist.Normal(), x)(x)
        numpyro.sample("y", dist.Bernoulli(logits=logits), obs=y)

    mcmc = infer.MCMC(infer.NUTS(model), num_warmup=60, num_samples=60, progress_bar=False)
    mcmc.run(jax.random.key(0), x, y)
    samples = mcmc.get_samples()
    assert {name: value.shape for name, value in samples.items()} == {
        "net/out/bias": (60, 1),
        "net/out/kernel": (60, 4, 1),
    }
    trees = js.tree.unflatten({name.removeprefix("net/"): x for name, x in samples.items()})
    logits = jax.vmap(lambda params: net.apply(params, None, x))(trees)
    assert jnp.mean((logits.mean(0) > 0) == y) > 0.97
    assert jnp.all(samples["net/out/kernel"].std(0) > 0.05)


def test_state_is_passed_on_by_svi_and_belongs_to_its_params() -> None:
    x, y = diabetes()

    def model(x: jax.Array, y: jax.Array) -> None:
        numpyro.sample("y", dist.Normal(module("net", NORMED, x)(x), 1.0).to_event(2), obs=y)

    svi = infer.SVI(model, lambda x, y: None, numpyro.optim.SGD(1e-3), infer.Trace_ELBO())
    state = svi.init(jax.random.key(0), x, y)
    params = svi.get_params(state)
    assert sorted(params) == ["net/norm/beta", "net/norm/gamma", "net/out/bias", "net/out/kernel"]
    for _ in range(2):
        state, _ = svi.update(state, x, y)
    kept = state.mutable_state["net$state"]["state"]
    first = svi.init(jax.random.key(0), x, y).mutable_state["net$state"]["state"]
    assert isinstance(kept, js.Params)
    # Three calls, with that of init: each moves the average half of the way.
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    close(first["norm"]["moving_mean"], 0.5 * x.mean(0))
    close(kept["norm"]["moving_mean"], 0.875 * x.mean(0))
    both = {**svi.get_params(state), **state.mutable_state}
    handlers.substitute(model, both)(x, y)
    with pytest.raises(errors.StateError) as caught:
        handlers.substitute(model, params)(x, y)
    assert str(caught.value) == (
        "The net 'net' was given params and no state.\n"
        "  fix:    give the state too, as the site 'net$state': SVI has both, "
        "{**svi.get_params(svi_state), **svi_state.mutable_state}."
    )


def test_state_stays_in_its_site_and_out_of_gradients() -> None:
    def model(x: jax.Array) -> jax.Array:
        net = module("net", NORMED, x)
        net(x)
        return net(x)

    def average(x: jax.Array) -> jax.Array:
        return sites(model, x)["net$state"]["value"]["state"]["norm"]["moving_mean"]

    np.testing.assert_allclose(average(X), 0.75 * X.mean(0), rtol=1e-5)
    assert not jnp.any(jax.grad(lambda x: average(x).sum())(X))


def test_a_prior_over_a_net_with_state_works_too() -> None:
    found = kinds(prior_of(dist.Normal(), NORMED), X)
    assert found.pop("net$state") == "mutable"
    assert set(found.values()) == {"sample"}


def test_the_model_runs_in_jit_and_in_plates_with_subsamples() -> None:
    def model(x: jax.Array) -> None:
        net = module("net", NET, x)
        with numpyro.plate("batch", x.shape[0], subsample_size=1):
            numpyro.sample("y", dist.Normal(net(numpyro.subsample(x, event_dim=1))[..., 0]))

    found = jax.jit(lambda: {k: v["value"] for k, v in sites(model, X).items()})()
    assert found["net/hidden/kernel"].shape == (4, 3)
    assert found["y"].shape == (1,)


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no net": (
        lambda: module("net", mlp, X),
        errors.ArgumentError,
        "The net must be what jscope.transform returned, got <function mlp> of type function.",
    ),
    "a name that is no text": (
        lambda: module(None, NET, X),
        errors.NameTypeError,
        "The name must be a string, got None of type NoneType.",
    ),
    "what is no name": (
        lambda: module("my net", NET, X),
        errors.InvalidNameError,
        "'my net' is not a valid scope name: each component between slashes has to match "
        "[A-Za-z0-9_.\\\\>-]+.\n"
        "  fix:    use letters, digits and _ . \\ > - , with single slashes between components.",
    ),
    "no key": (
        lambda: handlers.trace(model_of(NET)).get_trace(X),
        errors.RngError,
        "The net 'net' needs a key for its initial values, and numpyro.prng_key() has none.\n"
        "  fix:    run the model under numpyro.handlers.seed(model, 0), or in SVI or MCMC.",
    ),
    "a pattern that takes nothing": (
        lambda: sites(prior_of({"**/kernel": dist.Normal(), "kernel": dist.Normal()}), X),
        errors.EmptySelectionError,
        "The pattern 'kernel' selects nothing among the tree's 4 names.\n"
        "  near:   'hidden/kernel', 'out/kernel'\n"
        "  fix:    a path is matched from the root, by whole components: '**/kernel' selects "
        "these.",
    ),
    "no distribution": (
        lambda: sites(prior_of(None), X),
        errors.ArgumentError,
        "The prior of variable hidden/kernel must be a distribution of NumPyro, or a function "
        "(shape) -> distribution, got None of type NoneType.",
    ),
    "a class of distributions": (
        lambda: sites(prior_of({"out/kernel": dist.Normal}), X),
        errors.ArgumentError,
        "The prior of variable out/kernel must be a distribution of NumPyro, or a function "
        "(shape) -> distribution, got <class 'numpyro.distributions.continuous.Normal'> of type "
        "DistributionMeta.",
    ),
    "another shape": (
        lambda: sites(prior_of({"out/kernel": dist.Normal(jnp.zeros(2), 1.0)}), X),
        errors.ArgumentError,
        "The prior of variable out/kernel is of shape (2,), which cannot be expanded to (3, 1).\n"
        "  fix:    give a distribution of one element, or a function (shape) -> distribution.",
    ),
    "more axes": (
        lambda: sites(prior_of({"out/bias": dist.Normal().expand([2, 1]).to_event(2)}), X),
        errors.ArgumentError,
        "The prior of variable out/bias is of shape (2, 1), which cannot be expanded to (1,).\n"
        "  fix:    give a distribution of one element, or a function (shape) -> distribution.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_module_is_refused_for(name: str) -> None:
    call, kind, text = REFUSED[name]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value).replace(f" at {id(mlp):#x}", "") == text
    pickle.dumps(caught.value)


def test_a_function_of_other_arguments_is_no_prior() -> None:
    def prior(name: str, shape: Any) -> Any:
        return dist.Normal()

    with pytest.raises(
        errors.ArgumentError, match="or a function \\(shape\\) -> distribution, got"
    ):
        sites(prior_of(prior), X)


def test_without_handlers_numpyro_warns_and_the_key_is_missed() -> None:
    with (
        pytest.warns(UserWarning, match="outside of `seed` handler"),
        pytest.raises(errors.RngError, match="needs a key for its initial values"),
    ):
        module("net", NET, X)


def test_without_numpyro_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['numpyro'] = None\n"
        "import jscope\n"
        "try: jscope.interop.numpyro.module('net', None)\n"
        "except ImportError as error: print(error)"
    )
    said = output_of("-c", code)
    assert said.strip() == (
        "jscope.interop.numpyro needs NumPyro: pip install 'jscope-jax[numpyro]'."
    )
