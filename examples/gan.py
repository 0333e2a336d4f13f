"""Does a TF1-style GAN learn to draw digits, its two halves told apart by scope alone?

One function builds the generator and the discriminator, which sees real and drawn images by
``reuse``, and is reused once more inside a raw ``jax.grad`` for the penalty on its gradient. Each
half is trained on its own loss, by its own optimizer. The score: of scikit-learn's digits (8 x 8
pixels) that were held out, how many does a nearest-neighbour classifier read that was shown drawn
digits only? It has to beat one that was shown the ten mean images, so drawing blurs is not enough.

    pip install -e ".[examples]"
    python examples/gan.py              # a minute on two CPU cores; saves gan.png
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from tqdm import tqdm

import jscope as js

leaky_relu = functools.partial(jax.nn.leaky_relu, negative_slope=0.2)


def generator(digits: jax.Array) -> jax.Array:
    """Draws each digit, differently each time: [batch] -> [batch, 64]."""
    with js.variable_scope("generator"):
        noise = jax.random.normal(js.next_rng_key(), [len(digits), 32])
        x = jnp.concatenate([noise, jax.nn.one_hot(digits, 10)], axis=-1)
        x = js.layers.dense(x, 256, jax.nn.relu)
        x = js.layers.dense(x, 256, jax.nn.relu)
        return js.layers.dense(x, 64, jax.nn.sigmoid)


def discriminator(images: jax.Array, digits: jax.Array, reuse: bool = False) -> jax.Array:
    """Log odds that an image of a digit is real: [batch, 64], [batch] -> [batch]."""
    with js.variable_scope("discriminator", reuse=reuse):
        x = js.layers.dense(images, 256, leaky_relu)
        x = js.layers.dense(x, 256, leaky_relu)
        return jnp.sum(js.layers.dense(x, 10) * jax.nn.one_hot(digits, 10), axis=-1)


def gan(images: jax.Array, digits: jax.Array) -> dict[str, jax.Array]:
    """The loss of each half, Goodfellow et al. 2014: [batch, 64], [batch] -> two of []."""
    real = discriminator(images, digits)
    drawn = discriminator(generator(digits), digits, reuse=True)  # without reuse: refused
    # As in Mescheder et al. 2018, the discriminator is to be flat around real images.
    slope = jax.grad(lambda images: discriminator(images, digits, reuse=True).sum())(images)
    return {
        "generator": jax.nn.softplus(-drawn).mean(),
        "discriminator": jnp.mean(
            jax.nn.softplus(drawn) + jax.nn.softplus(-real) + jnp.sum(slope**2, axis=-1)
        ),
    }


net, artist = js.transform(gan), js.transform(generator)
RATES = {"generator": 1e-3, "discriminator": 2e-3}
optimizer = optax.multi_transform(
    {scope: optax.adam(rate, b1=0, b2=0.99) for scope, rate in RATES.items()},
    lambda params: js.tree.labels(params, {scope: scope for scope in RATES}),
)


def loss_fn(params: js.Params, scope: str, key: jax.Array, *batch: jax.Array) -> jax.Array:
    """The loss of one half: any key, [batch, 64], [batch] -> []."""
    return net.apply(params, key, *batch)[scope]


@jax.jit
def train_step(
    params: js.Params, opt_state: optax.OptState, key: jax.Array, *batch: jax.Array
) -> tuple[js.Params, optax.OptState, dict[str, jax.Array]]:
    """One step: each half goes down the slope of its own loss, as the other half is now."""
    losses, grads = {}, []
    for scope in RATES:
        losses[scope], grad = jax.value_and_grad(loss_fn)(params, scope, key, *batch)
        grads.append(js.tree.select(grad, scope))
    updates, opt_state = optimizer.update(js.tree.merge(*grads), opt_state)
    return optax.apply_updates(params, updates), opt_state, losses


def draw(real: np.ndarray, drawn: np.ndarray, picture: str) -> None:
    """Saves a picture of two sheets, a column for each digit: [any, 10, 64], [any, 10, 64]."""
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    sheets = {"real": real, "drawn": drawn}
    for axes, (title, sheet) in zip(figure.subplots(1, 2), sheets.items(), strict=True):
        images = np.pad(sheet.reshape(*sheet.shape[:2], 8, 8), [(0, 0), (0, 0), (1, 1), (1, 1)])
        axes.imshow(np.block([list(row) for row in images]), cmap="gray_r")
        axes.set_title(title)
        axes.axis("off")
    figure.savefig(picture, dpi=120)


def main(steps: int = 3000, picture: str = "gan.png") -> float:
    """Trains, saves the picture and returns the share read by who knows drawn digits only."""
    images, digits = load_digits(return_X_y=True)
    images, test_images, digits, test_digits = train_test_split(
        images.astype(np.float32) / 16, digits, test_size=0.2, random_state=0, stratify=digits
    )

    def share_read(images: np.ndarray, digits: np.ndarray) -> float:
        return KNeighborsClassifier(1).fit(images, digits).score(test_images, test_digits)

    rng, key, sketch = np.random.default_rng(0), jax.random.key(1), jax.jit(artist.apply)
    params = net.init(jax.random.key(0), images, digits)  # looks at the shapes only
    print(js.summary(net, images, digits))
    of_each = np.stack([images[digits == digit][:10] for digit in range(10)], axis=1)
    means = np.stack([images[digits == digit].mean(0) for digit in range(10)])
    references = {
        "the untrained generator": share_read(sketch(params, key, digits), digits),
        "the ten mean images": share_read(means, np.arange(10)),
        "real digits": share_read(images, digits),
    }

    opt_state = optimizer.init(params)
    for step in (bar := tqdm(range(steps), unit="step")):
        rows = rng.choice(len(images), 128, replace=False)
        params, opt_state, losses = train_step(
            params, opt_state, jax.random.fold_in(key, step), images[rows], digits[rows]
        )
        bar.set_postfix({scope: f"{loss:.3f}" for scope, loss in losses.items()}, refresh=False)

    drawn = sketch(params, key, digits)
    draw(
        of_each,
        np.stack([np.asarray(drawn)[digits == digit][:10] for digit in range(10)], axis=1),
        picture,
    )
    result = share_read(drawn, digits)
    for teacher, share in references.items():
        print(f"read by who knows {teacher}: {share:.4f}")
    print(f"read by who knows drawn digits: {result:.4f}, picture saved to {picture}")
    return result


if __name__ == "__main__":
    main()
