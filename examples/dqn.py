"""Does a TF1-style deep Q-network with a target network learn to balance CartPole?

One function builds the online network in the scope "q" and a target network in "target_q", which
follows it as a moving average (Polyak); only what is in "q" is trained. Both are picked by name, as
TF1 code does it, but a name that matches nothing is an error here: a filter that silently matched
nothing has kept more than one published target network at its initial values. Double Q-learning:
"q" chooses the next action and "target_q" says what it is worth.

    pip install -e ".[examples]"
    python examples/dqn.py              # three quarters of a minute; saves dqn.png
"""

import functools

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from tqdm import tqdm

import jscope as js

DISCOUNT = 0.995  # sees 200 steps ahead; with 0.98 the cart drifts out of sight, and falls late
LIMITS = np.array([2.4, 2.0, 0.21, 2.0], np.float32)  # place, speed, angle: it falls beyond them
TRANSITION = np.dtype(
    [
        ("state", np.float32, 4),
        ("action", np.int32),
        ("reward", np.float32),
        ("after", np.float32, 4),  # the state after the action
        ("fell", np.bool_),  # nothing comes after it; False if only the time was up
    ]
)


@js.jit  # traced once for both networks
def q_values(states: jax.Array) -> jax.Array:
    """Mean reward to expect from each action: [batch, 4] -> [batch, 2]."""
    x = js.layers.dense(states / LIMITS, 128, jax.nn.relu, name="hidden1")
    x = js.layers.dense(x, 128, jax.nn.relu, name="hidden2")
    return js.layers.dense(x, 2, name="values")


def q_network(states: jax.Array, scope: str, reuse: bool = False) -> jax.Array:
    """What the network of the scope expects: [batch, 4] -> [batch, 2]."""
    with js.variable_scope(scope, reuse=reuse):
        return q_values(states)


def td_loss(batch: dict[str, jax.Array]) -> jax.Array:
    """Mean square of the temporal differences, of a batch of transitions -> []."""
    chosen = batch["action"][:, None]
    values = jnp.take_along_axis(q_network(batch["state"], "q"), chosen, axis=1)[:, 0]
    best = q_network(batch["after"], "q", reuse=True).argmax(axis=1)[:, None]
    worth = jnp.take_along_axis(q_network(batch["after"], "target_q"), best, axis=1)[:, 0]
    after = DISCOUNT * worth * ~batch["fell"]
    # As a mean, not a sum: between 0 and 1, where a new network's values are too.
    targets = (1 - DISCOUNT) * batch["reward"] + after
    return optax.squared_error(values, targets).mean()


net = js.transform(td_loss)
greedy = js.transform(lambda states: q_network(states, "q").argmax(axis=1))  # [batch, 4] -> [batch]
act = jax.jit(greedy.apply)


def loss_fn(online: js.Params, target: js.Params, batch: dict[str, jax.Array]) -> jax.Array:
    """Of the two networks apart: only the first is differentiated, without ``stop_gradient``."""
    return net.apply(js.tree.merge(online, target), None, batch)


@functools.partial(jax.jit, static_argnames="optimizer")
def train_step(
    params: js.Params,
    opt_state: optax.OptState,
    batch: dict[str, jax.Array],
    optimizer: optax.GradientTransformation,
) -> tuple[js.Params, optax.OptState]:
    """One step of Adam for "q", which "target_q" follows by half a hundredth of the way."""
    online, target = js.tree.partition(params, "q")  # the scope "q", not "target_q"
    updates, opt_state = optimizer.update(jax.grad(loss_fn)(online, target, batch), opt_state)
    online = optax.apply_updates(online, updates)
    goal = js.tree.rename(online, {"q": "target_q"})
    target = optax.incremental_update(goal, target, step_size=0.005)
    return js.tree.merge(online, target), opt_state


def evaluate(params: js.Params, seed: int, episodes: int = 20) -> float:
    """Mean return of episodes that are played greedily, side by side."""
    envs = gym.make_vec("CartPole-v1", num_envs=episodes)
    states, _ = envs.reset(seed=seed)
    running, returns = np.ones(episodes, bool), np.zeros(episodes)
    while running.any():
        actions = np.asarray(act(params, None, states))
        states, rewards, fell, time_up, _ = envs.step(actions)
        returns += rewards * running  # those that are over start again, and do not count
        running &= ~(fell | time_up)
    envs.close()
    return float(returns.mean())


def draw(returns: dict[int, float], means: dict[int, float], picture: str) -> None:
    """Saves a picture of the returns of the training episodes and the evaluations, by step."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(list(returns), list(returns.values()), ".", alpha=0.4, label="training episode")
    axes.plot(list(means), list(means.values()), marker="o", label="greedy, mean of 20 episodes")
    axes.set(xlabel="training step", ylabel="steps without a fall", ylim=(0, 520), title="CartPole")
    axes.legend(loc="center right")
    figure.savefig(picture, dpi=120)


def main(steps: int = 30_000, picture: str = "dqn.png", seed: int = 0) -> float:
    """Trains, saves the picture and returns the mean return of greedy episodes at the end."""
    replay = np.zeros(steps, TRANSITION)
    example = {name: replay[name][:1] for name in TRANSITION.names}
    print(js.summary(net, example))
    params = net.init(seed, example)
    online = js.tree.select(params, "q")
    params = js.tree.merge(online, js.tree.rename(online, {"q": "target_q"}))  # equal at first
    try:
        js.tree.rename(js.tree.select(params, "q_func"), {"q_func": "target_q"})
    except js.errors.EmptySelectionError as error:  # in TF1: an update of no variables
        print(f"with a wrong scope: {error}")

    rng, env = np.random.default_rng(seed), gym.make("CartPole-v1")
    state, _ = env.reset(seed=seed)
    optimizer = optax.adam(optax.linear_schedule(5e-4, 1e-5, steps))
    opt_state = optimizer.init(online)
    total, returns, means = 0.0, {}, {0: evaluate(params, seed)}
    for step in (bar := tqdm(range(1, steps + 1), unit="step")):
        if rng.random() < max(0.05, 1 - step / (0.2 * steps)):
            action = int(rng.integers(2))
        else:
            action = int(act(params, None, state[None])[0])
        after, reward, fell, time_up, _ = env.step(action)
        replay[step - 1] = state, action, reward, after, fell
        state, total = after, total + reward
        if fell or time_up:
            returns[step], total = total, 0.0
            state, _ = env.reset()

        if step >= 1000:
            rows = replay[rng.integers(step, size=256)]
            batch = {name: rows[name] for name in TRANSITION.names}
            params, opt_state = train_step(params, opt_state, batch, optimizer)
        if step % 3000 == 0 or step == steps:
            means[step] = evaluate(params, seed)
            bar.set_postfix(mean_return=f"{means[step]:.1f}")

    env.close()
    draw(returns, means, picture)
    print(f"mean return {means[steps]:.1f} of 500, picture saved to {picture}")
    return means[steps]


if __name__ == "__main__":
    main()
