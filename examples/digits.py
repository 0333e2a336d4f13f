"""Can plain functions with named variables read handwritten digits?

A small convolutional network, written as in TF1: layers are functions, ``variable_scope`` names
what they make, and no name is shared by accident. It trains on four fifths of scikit-learn's 1797
digits (8 x 8 pixels), is tested on the rest, and draws how it learned.

    pip install -e ".[examples]"
    python examples/digits.py           # half a minute on two CPU cores; saves digits.png
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


def conv2d(x: jax.Array, channels: int, name: str) -> jax.Array:
    """Looks at 3 x 3 pixels: [batch, height, width, any] -> [batch, height, width, channels]."""
    with js.variable_scope(name):
        kernel = js.get_variable("kernel", [3, 3, x.shape[-1], channels])
        bias = js.get_variable("bias", [channels], initializer=jax.nn.initializers.zeros)
    axes = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, [1, 1], "SAME", dimension_numbers=axes) + bias


def max_pool(x: jax.Array) -> jax.Array:
    """Halves an image: [batch, height, width, channels] -> [batch, height/2, width/2, channels]."""
    batch, height, width, channels = x.shape
    return x.reshape([batch, height // 2, 2, width // 2, 2, channels]).max([2, 4])


def dense(x: jax.Array, units: int, name: str) -> jax.Array:
    """Multiplies and adds: [batch, any] -> [batch, units]."""
    with js.variable_scope(name):
        kernel = js.get_variable("kernel", [x.shape[-1], units])
        bias = js.get_variable("bias", [units], initializer=jax.nn.initializers.zeros)
    return x @ kernel + bias


def classify(images: jax.Array) -> jax.Array:
    """Scores each digit: [batch, 8, 8, 1] -> [batch, 10]."""
    x = max_pool(jax.nn.relu(conv2d(images, 32, "conv1")))
    x = max_pool(jax.nn.relu(conv2d(x, 64, "conv2")))  # "conv1" again would be refused
    return dense(x.reshape([len(x), -1]), 10, "scores")


net = js.transform(classify)
optimizer = optax.adam(optax.exponential_decay(3e-3, transition_steps=100, decay_rate=0.7))


def loss_fn(params: js.Params, images: jax.Array, digits: jax.Array) -> jax.Array:
    """Mean cross-entropy: [batch, 8, 8, 1], [batch] -> []."""
    scores = net.apply(params, None, images)
    return optax.softmax_cross_entropy_with_integer_labels(scores, digits).mean()


@jax.jit
def train_step(
    params: js.Params, opt_state: optax.OptState, images: jax.Array, digits: jax.Array
) -> tuple[js.Params, optax.OptState, jax.Array]:
    """One step of Adam; params are a pytree, so JAX and optax take them as they are."""
    loss, grads = jax.value_and_grad(loss_fn)(params, images, digits)
    updates, opt_state = optimizer.update(grads, opt_state)
    return optax.apply_updates(params, updates), opt_state, loss


@jax.jit
def accuracy(params: js.Params, images: jax.Array, digits: jax.Array) -> jax.Array:
    """Share of the images read right: [batch, 8, 8, 1], [batch] -> []."""
    return jnp.mean(net.apply(params, None, images).argmax(-1) == digits)


def draw(losses: dict[int, float], accuracies: dict[int, float], picture: str) -> None:
    """Saves a picture of the loss and the accuracy, by step."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.semilogy(list(losses), list(losses.values()), linewidth=0.8)
    left.set(title="training loss", xlabel="step", ylabel="cross-entropy, nats")
    right.plot(list(accuracies), list(accuracies.values()), marker=".")
    right.set(title="test accuracy", xlabel="step", ylabel="share read right", ylim=(0, 1.02))
    figure.savefig(picture, dpi=120)


def main(steps: int = 600, picture: str = "digits.png") -> float:
    """Trains, saves the picture and returns the test accuracy."""
    images, digits = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype(np.float32) / 16
    images, test_images, digits, test_digits = train_test_split(
        images, digits, test_size=0.2, random_state=0, stratify=digits
    )
    params = net.init(jax.random.key(0), images)  # looks at the shape only
    print(js.summary(net, images))

    rng, opt_state = np.random.default_rng(0), optimizer.init(params)
    losses, accuracies = {}, {0: float(accuracy(params, test_images, test_digits))}
    for step in (bar := tqdm(range(1, steps + 1), unit="step")):
        rows = rng.choice(len(images), 128, replace=False)
        params, opt_state, loss = train_step(params, opt_state, images[rows], digits[rows])
        losses[step] = float(loss)
        if step % 20 == 0 or step == steps:
            accuracies[step] = float(accuracy(params, test_images, test_digits))
            bar.set_postfix(loss=f"{loss:.4f}", accuracy=f"{accuracies[step]:.3f}")

    draw(losses, accuracies, picture)
    print(f"test accuracy {accuracies[steps]:.4f}, picture saved to {picture}")
    return accuracies[steps]


if __name__ == "__main__":
    main()
