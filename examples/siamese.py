"""Do two images show the same digit? One tower looks at both.

The second call shares the variables of the first because it says so, with ``reuse=True``; a second
call that does not say so is refused. Scikit-learn's digits (8 x 8 pixels) are split first and then
paired, so no image in a test pair was ever trained on.

    pip install -e ".[examples]"
    python examples/siamese.py          # a quarter of a minute on two CPU cores; saves siamese.png
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import jscope as js


def dense(x: jax.Array, units: int, name: str) -> jax.Array:
    """Multiplies and adds: [batch, any] -> [batch, units]."""
    with js.variable_scope(name):
        kernel = js.get_variable("kernel", [x.shape[-1], units])
        bias = js.get_variable("bias", [units], initializer=jax.nn.initializers.zeros)
    return x @ kernel + bias


@js.jit  # traced once, though it is called twice
def tower(images: jax.Array) -> jax.Array:
    """What an image shows, as a point: [batch, 64] -> [batch, 32]."""
    x = jax.nn.relu(dense(images, 256, "dense1"))
    x = jax.nn.relu(dense(x, 128, "dense2"))
    return dense(x, 32, "point")


def compare(left: jax.Array, right: jax.Array, reuse: bool = True) -> jax.Array:
    """Log odds that both show the same digit: [batch, 64], [batch, 64] -> [batch]."""
    with js.variable_scope("tower"):
        a = tower(left)
    with js.variable_scope("tower", reuse=reuse):
        b = tower(right)
    limit = js.get_variable("limit", initializer=1.0)
    return limit - jnp.sum((a - b) ** 2, axis=-1)


net = js.transform(compare)
optimizer = optax.adam(1e-3)


def loss_fn(params: js.Params, left: jax.Array, right: jax.Array, same: jax.Array) -> jax.Array:
    """Mean cross-entropy: [batch, 64], [batch, 64], [batch] -> []."""
    return optax.sigmoid_binary_cross_entropy(net.apply(params, None, left, right), same).mean()


@jax.jit
def train_step(
    params: js.Params, opt_state: optax.OptState, *batch: jax.Array
) -> tuple[js.Params, optax.OptState, jax.Array]:
    """One step of Adam; the tower's gradient is the sum over both of its calls."""
    loss, grads = jax.value_and_grad(loss_fn)(params, *batch)
    updates, opt_state = optimizer.update(grads, opt_state)
    return optax.apply_updates(params, updates), opt_state, loss


def pair(
    rng: np.random.Generator, images: np.ndarray, digits: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws pairs of images, every other one of one digit: [count, 64], [count, 64], [count]."""
    same = np.arange(count) % 2 == 0
    left = rng.integers(len(digits), size=count)
    fits = (digits == digits[left, None]) == same[:, None]  # [count, any]
    fits[np.arange(count), left] = False  # not with itself
    right = (fits * rng.random(fits.shape)).argmax(axis=1)  # one of those that fit
    return images[left], images[right], same


def draw(
    left: np.ndarray, right: np.ndarray, same: np.ndarray, odds: np.ndarray, picture: str
) -> None:
    """Saves a picture of eight pairs and of the log odds of all: [any, 64] twice, [any] twice."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    pairs, counts = figure.subfigures(1, 2)
    pairs.suptitle("held-out pairs: says (truth)")
    words = np.array(["different", "same"])
    for index, axes in enumerate(pairs.subplots(2, 4).ravel()):
        both = [each[index].reshape(8, 8) for each in (left, right)]
        axes.imshow(np.hstack([np.pad(image, 1) for image in both]), cmap="gray_r")
        said, truth = words[int(odds[index] > 0)], words[int(same[index])]
        axes.set_title(f"{said}\n({truth})", color="black" if said == truth else "red", fontsize=9)
        axes.axis("off")
    axes = counts.subplots()
    bins = np.linspace(*np.percentile(odds, [1, 99]), 40)
    for truth in (True, False):
        axes.hist(odds[same == truth], bins, alpha=0.6, label=f"{words[int(truth)]} digit")
    axes.axvline(0, color="black", linestyle="--", linewidth=0.8)
    axes.set(title="all held-out pairs", xlabel="log odds of the same digit", ylabel="pairs")
    axes.legend()
    figure.savefig(picture, dpi=120)


def main(steps: int = 1000, picture: str = "siamese.png") -> float:
    """Trains, saves the picture and returns the accuracy on pairs that it never saw."""
    images, digits = load_digits(return_X_y=True)
    images = images.astype(np.float32) / 16
    images, test_images, digits, test_digits = train_test_split(
        images, digits, test_size=0.2, random_state=0, stratify=digits
    )
    rng = np.random.default_rng(0)
    test_pairs = pair(rng, test_images, test_digits, 2000)

    try:
        net.specs(images, images, reuse=False)
    except js.errors.VariableExistsError as error:
        print(f"without reuse: {error}")

    params = net.init(jax.random.key(0), images, images)  # looks at the shapes only
    print(js.summary(net, images, images))  # one tower, not two

    opt_state = optimizer.init(params)
    for _ in (bar := tqdm(range(steps), unit="step")):
        batch = pair(rng, images, digits, 128)
        params, opt_state, loss = train_step(params, opt_state, *batch)
        bar.set_postfix(loss=f"{loss:.4f}", refresh=False)

    left, right, same = test_pairs
    odds = np.asarray(jax.jit(net.apply)(params, None, left, right))
    draw(left, right, same, odds, picture)
    result = float(np.mean((odds > 0) == same))
    print(f"accuracy on held-out pairs {result:.4f}, picture saved to {picture}")
    return result


if __name__ == "__main__":
    main()
