"""Can a frozen model be adapted to another task without touching its code?

A small network reads scikit-learn's digits (8 x 8 pixels). Then the same function, opened in a
scope whose custom getter adds a product of two thin matrices to every kernel (LoRA, Hu et al.
2021), learns to read digits that lie on their side. Only the thin matrices are trained: the base
params keep every bit and still read upright digits. Training all of them is the comparison.

    pip install -e ".[examples]"
    python examples/lora.py             # half a minute on two CPU cores; saves lora.png
"""

from typing import NamedTuple

import jax
import numpy as np
import optax
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import jscope as js


def classify(images: jax.Array) -> jax.Array:
    """Scores each digit, and knows nothing of adapters: [batch, 8, 8, 1] -> [batch, 10]."""
    x = js.layers.conv2d(images, 32, 3, padding="same", activation=jax.nn.relu)
    x = js.layers.conv2d(js.layers.max_pooling2d(x, 2, 2), 64, 3, activation=jax.nn.relu)
    x = js.layers.dense(js.layers.flatten(x), 128, jax.nn.relu)
    return js.layers.dense(x, 10)


# "": the root. Nothing changes at first, as the second matrix of each pair starts at zero.
with_adapters = js.variable_scope("", custom_getter=js.getters.low_rank(4, scale=16))
base, adapted = js.transform(classify), js.transform(with_adapters(classify))
ADAPTERS = ["**/kernel_a", "**/kernel_b"]


class Task(NamedTuple):
    """Images to learn from and to be tested on: [any, 8, 8, 1], and their digits, [any]."""

    images: np.ndarray
    test_images: np.ndarray
    digits: np.ndarray
    test_digits: np.ndarray


def accuracy(net: js.Transformed, params: js.Params, task: Task) -> float:
    """Share of the test images read right."""
    scores = jax.jit(net.apply)(params, None, task.test_images)
    return float(np.mean(scores.argmax(-1) == task.test_digits))


def train(
    what: str, net: js.Transformed, trained: js.Params, frozen: js.Params, task: Task, steps: int
) -> tuple[js.Params, dict[int, float]]:
    """Trains a part of the params by Adam; returns all of them, and test accuracies by step."""
    optimizer = optax.adam(3e-3)

    def loss_fn(trained: js.Params, images: jax.Array, digits: jax.Array) -> jax.Array:
        scores = net.apply(js.tree.merge(trained, frozen), None, images)
        return optax.softmax_cross_entropy_with_integer_labels(scores, digits).mean()

    @jax.jit
    def train_step(
        trained: js.Params, opt_state: optax.OptState, images: jax.Array, digits: jax.Array
    ) -> tuple[js.Params, optax.OptState, jax.Array]:
        loss, grads = jax.value_and_grad(loss_fn)(trained, images, digits)  # of this part alone
        updates, opt_state = optimizer.update(grads, opt_state)
        return optax.apply_updates(trained, updates), opt_state, loss

    rng, opt_state = np.random.default_rng(0), optimizer.init(trained)
    accuracies = {0: accuracy(net, js.tree.merge(trained, frozen), task)}
    for step in (bar := tqdm(range(1, steps + 1), desc=what, unit="step")):
        rows = rng.choice(len(task.images), 128, replace=False)
        batch = task.images[rows], task.digits[rows]
        trained, opt_state, loss = train_step(trained, opt_state, *batch)
        if step % 20 == 0 or step == steps:
            accuracies[step] = accuracy(net, js.tree.merge(trained, frozen), task)
            bar.set_postfix(loss=f"{loss:.4f}", accuracy=f"{accuracies[step]:.3f}")
    return js.tree.merge(trained, frozen), accuracies


def draw(images: np.ndarray, curves: dict[str, dict[int, float]], picture: str) -> None:
    """Saves a picture of 24 images and of accuracies by step: [any, 8, 8, 1], curves by name."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    framed = np.pad(images[:24, ..., 0], [(0, 0), (1, 1), (1, 1)]).reshape(4, 6, 10, 10)
    left.imshow(np.block([list(row) for row in framed]), cmap="gray_r")
    left.set_title("digits on their side")
    left.axis("off")
    for name, curve in curves.items():
        right.plot(list(curve), list(curve.values()), marker=".", label=name)
    right.set(
        title="test accuracy on them", xlabel="step", ylabel="share read right", ylim=(0, 1.02)
    )
    right.legend(loc="lower right")
    figure.savefig(picture, dpi=120)


def main(steps: int = 300, picture: str = "lora.png") -> float:
    """Trains three times, saves the picture and returns the accuracy of the adapted model."""
    images, digits = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype(np.float32) / 16
    upright = Task(
        *train_test_split(images, digits, test_size=0.2, random_state=0, stratify=digits)
    )
    turned = upright._replace(
        images=np.rot90(upright.images, axes=(1, 2)),
        test_images=np.rot90(upright.test_images, axes=(1, 2)),
    )

    nothing, start = js.Params(), base.init(jax.random.key(0), images)
    params, _ = train("base, upright digits", base, start, nothing, upright, steps)
    adapters = js.tree.select(adapted.init(jax.random.key(1), images), ADAPTERS)
    both, few_trained = train("adapters, turned digits", adapted, adapters, params, turned, steps)
    _, all_trained = train("everything, turned digits", base, params, nothing, turned, steps)

    print(js.summary(adapted, images))
    few, whole = js.tree.count(adapters), js.tree.count(params)
    draw(
        turned.images,
        {f"adapters, {few} numbers": few_trained, f"everything, {whole} numbers": all_trained},
        picture,
    )
    print(f"upright digits, base params in both: {accuracy(base, both, upright):.4f}")
    print(f"turned digits, nothing trained:      {few_trained[0]:.4f}")
    print(f"turned digits, {whole} numbers trained: {all_trained[steps]:.4f}")
    print(
        f"turned digits, {few} adapters trained:  {few_trained[steps]:.4f}, "
        f"picture saved to {picture}"
    )
    return few_trained[steps]


if __name__ == "__main__":
    main()
