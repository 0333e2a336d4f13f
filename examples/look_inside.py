"""Which heads of a language model matter, and what do they look at?

The model is that of ``char_lm.py``, which records the queries, keys and results of its heads by
name. It is trained for a while, and then one captured pass shows where each head looks. To see what
a head is worth, the mean of its results is planted in their place, one head at a time, and the loss
is taken again: nothing in the model knows of that. The summary of the model is saved as a page.

    pip install -e ".[examples]"
    python examples/look_inside.py      # a minute on two CPU cores; saves look_inside.png, .html
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from char_lm import Sizes, bits, net, read_plays, train_step
from matplotlib.figure import Figure
from tqdm import tqdm

import jscope as js

SCOPE = "model/h/attn"  # of all layers, which are stacked along the first axis of what they record


def patterns(query: jax.Array, key: jax.Array) -> jax.Array:
    """Where heads look: twice [layers, batch, time, heads, depth] -> [layers, heads, time, time].

    Those of the first text.
    """
    scores = jnp.einsum("lthd,lshd->lhts", query[:, 0], key[:, 0]) / jnp.sqrt(query.shape[-1])
    past = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    return jax.nn.softmax(jnp.where(past[None, None], scores, -jnp.inf), axis=-1)


def worth(params: js.Params, text: np.ndarray, sizes: Sizes, heads: jax.Array) -> np.ndarray:
    """By how many bits a character costs more without each head: [layers, heads].

    ``heads`` are their results, [layers, batch, time, heads, depth], of which the mean is planted;
    what comes later in the model follows from it.
    """
    means = heads.mean(axis=(1, 2))

    @jax.jit
    def planted(layer: int, head: int) -> jax.Array:
        def change(value: jax.Array, number: jax.Array) -> jax.Array:  # of the layer of this number
            is_it = (number == layer) & (jnp.arange(sizes.heads) == head)
            return jnp.where(is_it[None, None, :, None], means[number][None, None], value)

        return js.plant({f"{SCOPE}/heads": change})(bits.__wrapped__)(params, text, sizes)

    names = [(layer, head) for layer in range(sizes.layers) for head in range(sizes.heads)]
    costs = [float(planted(*name)) for name in tqdm(names, unit="head")]
    return np.array(costs).reshape(sizes.layers, sizes.heads) - float(bits(params, text, sizes))


def draw(maps: np.ndarray, costs: np.ndarray, chars: str, picture: str) -> None:
    """Saves a picture: what each head looks at, and beside it what each is worth."""
    layers, heads = costs.shape
    figure = Figure(figsize=(2 * heads + 3, 2 * layers), layout="constrained")
    grid = figure.add_gridspec(layers, heads + 1, width_ratios=[*[1] * heads, 1.2])
    for layer, head in np.ndindex(layers, heads):
        axes = figure.add_subplot(grid[layer, head])
        axes.imshow(maps[layer, head], cmap="Greys", vmin=0, vmax=1)
        axes.set_title(f"layer {layer}, head {head}", fontsize=8)
        shown = [repr(char)[1:-1] for char in chars]
        axes.set_xticks(range(len(chars)), shown, fontsize=5)
        axes.set_yticks(range(len(chars)), shown, fontsize=5)
    axes = figure.add_subplot(grid[:, heads])
    axes.barh(range(costs.size), costs.ravel())
    axes.set_yticks(
        range(costs.size), [f"{layer}.{head}" for layer, head in np.ndindex(costs.shape)]
    )
    axes.invert_yaxis()
    axes.set(xlabel="bits more without it", ylabel="layer.head")
    figure.savefig(picture, dpi=120)


def main(
    steps: int = 900,
    picture: str = "look_inside.png",
    batch: int = 16,
    context: int = 64,
    width: int = 96,
    layers: int = 4,
    heads: int = 4,
    shown: int = 24,
) -> np.ndarray:
    """Trains, looks, saves the picture and the page; returns what each head is worth."""
    train, test = read_plays()
    letters = sorted(set(train + test))
    train, test = (np.searchsorted(letters, list(text)) for text in (train, test))
    sizes = Sizes(len(letters), context, width, layers, heads)
    starts = np.linspace(0, len(test) - context - 1, 64).astype(int)
    test = test[starts[:, None] + np.arange(context + 1)]

    summary = js.summary(net, sizes, test[:, :-1])
    print(summary)
    page = str(Path(picture).with_suffix(".html"))
    summary.save(page)

    params = net.init(jax.random.key(0), sizes, test[:, :-1])
    rate = optax.warmup_cosine_decay_schedule(0.0, 5e-3, steps // 10, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, b2=0.99))
    opt_state, rng = optimizer.init(params), np.random.default_rng(0)
    for _ in (bar := tqdm(range(steps), unit="step")):
        starts = rng.integers(len(train) - context, size=[batch, 1])
        text = train[starts + np.arange(context + 1)]
        params, opt_state, loss = train_step(params, opt_state, text, sizes, optimizer)
        bar.set_postfix(bits=f"{loss:.3f}", refresh=False)

    look = jax.jit(js.capture(net.apply, SCOPE), static_argnums=2)
    _, seen = look(params, None, sizes, test[:, :-1])
    for name, value in seen.items():
        print(f"{name:20} {list(value.shape)}")
    costs = worth(params, test, sizes, seen[f"{SCOPE}/heads"])
    maps = patterns(seen[f"{SCOPE}/query"], seen[f"{SCOPE}/key"])[..., :shown, :shown]
    draw(np.asarray(maps), costs, "".join(letters[char] for char in test[0, :shown]), picture)
    layer, head = np.unravel_index(costs.argmax(), costs.shape)
    print(
        f"layer {layer}, head {head} is worth most, {costs.max():.4f} bits per character; "
        f"picture saved to {picture}, summary to {page}"
    )
    return costs


if __name__ == "__main__":
    main()
