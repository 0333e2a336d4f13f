r"""Can agents that were shipped as a TF1 checkpoint still play, without TensorFlow?

The package rlcard 0.2.8 carries two agents for Leduc hold'em, a poker of six cards. Each has three
networks, which rlcard built with ``tf.layers`` and ``tf.contrib``: one values the actions, a target
network should follow it, and one learned the average of what the agent did. The scopes and layers
below come out with the names and shapes of the checkpoint, so it is restored by name, without any
map, and the agents play the package's game against a player who acts at random.

One network never learned. The variables of the scope ``nfsp0_dqn_q`` were made inside ``nfsp0``, so
their names begin with ``nfsp0/nfsp0_dqn_q``, but rlcard copies those into the target network whose
names begin with ``nfsp0_dqn_q``: none, and TF1 copied them in silence. ``js.tree.select`` refuses a
pattern that selects nothing.

    pip install -e ".[examples]"
    python examples/rlcard_tf1.py       # half a minute on two CPU cores; saves rlcard_tf1.png

The networks without what Adam kept, as a file that needs no reader of checkpoints:

    jscope convert .../leduc_holdem_nfsp agents.safetensors \
        --drop global_step --drop '**/*_adam*' --drop '**/beta?_power*'
"""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import rlcard
from matplotlib.figure import Figure
from tqdm import tqdm

import jscope as js

FOLDER = Path(rlcard.__file__).parent / "models/pretrained/leduc_holdem_nfsp"
OF_ADAM = ["global_step", "**/*_adam*", "**/beta?_power*"]
AGENTS = "nfsp0", "nfsp1"  # each learned at its own seat
SCOPES = {"online": "{}_dqn_q", "target": "{}_dqn_target_q", "average": "sl"}
TABLES = 500  # where games are played side by side
CONTRIB_NAMES = js.getters.rename({r"/kernel$": "/weights", r"/bias$": "/biases"})


def fully_connected(
    x: jax.Array, units: int, activation: Callable[[jax.Array], jax.Array] | None = None
) -> jax.Array:
    """``tf.contrib.layers.fully_connected``: [batch, any] -> [batch, units]."""
    with js.variable_scope(None, "fully_connected", custom_getter=CONTRIB_NAMES) as here:
        return js.layers.dense(x, units, activation, name=here)


@js.jit  # traced once for the six networks
def mlp(states: jax.Array) -> jax.Array:
    """A number for each action, from averages of what was seen: [batch, 36] -> [batch, 4]."""
    x = js.layers.batch_normalization(states)
    for _ in range(2):
        x = fully_connected(x, 128, jnp.tanh)
    return fully_connected(x, 4)


def scores(states: jax.Array, network: str) -> jax.Array:
    """What a network of each agent says: [batch, 36] -> [agents, batch, 4]."""
    found = []
    for agent in AGENTS:
        with js.variable_scope(agent), js.variable_scope(SCOPES[network].format(agent)):
            found.append(mlp(states))
    return jnp.stack(found)


def choose(states: jax.Array, legal: jax.Array, network: str) -> jax.Array:
    """An action for each agent: [batch, 36], bools [batch, 4] -> [agents, batch]."""
    found = jnp.where(legal, scores(states, network), -jnp.inf)
    if network == "average":  # a policy, as log odds
        return jax.random.categorical(js.next_rng_key(), found)
    return found.argmax(axis=-1)  # values


agents = js.transform_with_state(lambda states: [scores(states, network) for network in SCOPES])
act = jax.jit(js.transform_with_state(choose).apply, static_argnames="network")


def restore() -> tuple[js.Params, js.Params]:
    """The params and the state of the agents: all that the checkpoint has, but for Adam's."""
    specs = agents.specs(jax.ShapeDtypeStruct([1, 36], np.float32))
    (params, state), report = js.restore(specs, js.io.open(FOLDER).drop(OF_ADAM))
    print(js.summary(agents, jax.ShapeDtypeStruct([1, 36], np.float32), depth=1))
    print(f"restored {len(report.restored)} variables of six networks")
    return params, state


def play(
    params: js.Params, state: js.Params, network: str, games: int, seed: int = 0
) -> np.ndarray:
    """Pay-offs of the agents, at every other table one of the two: [games]."""
    rng, ours = np.random.default_rng(seed), np.arange(TABLES) % len(AGENTS)  # seats
    tables = [rlcard.make("leduc-holdem", {"seed": seed + table}) for table in range(TABLES)]
    payoffs: list[float] = []
    for _ in (bar := tqdm(range(0, games, TABLES), network, unit_scale=TABLES, unit="game")):
        turns = [table.reset() for table in tables]  # what a player sees, and the seat
        while going := [index for index, table in enumerate(tables) if not table.is_over()]:
            states = np.array([seen["obs"] for seen, _ in turns], np.float32)
            legal = np.array([[a in seen["legal_actions"] for a in range(4)] for seen, _ in turns])
            key = int(rng.integers(2**31))
            said = np.asarray(act(params, state, key, states, legal, network)[0])
            drawn = (rng.random(legal.shape) * legal).argmax(axis=1)
            for index in going:
                seat = turns[index][1]
                action = said[seat, index] if seat == ours[index] else drawn[index]
                turns[index] = tables[index].step(int(action))
        payoffs += [table.get_payoffs()[seat] for table, seat in zip(tables, ours, strict=True)]
        bar.set_postfix(payoff=f"{np.mean(payoffs):+.3f}", refresh=False)
    return np.array(payoffs)


def variables(params: js.Params, network: str) -> dict[str, jax.Array]:
    """Those of the first agent's network, by the names in its scope."""
    return js.tree.flatten(params["nfsp0"][SCOPES[network].format("nfsp0")])


def draw(payoffs: dict[str, np.ndarray], params: js.Params, picture: str) -> None:
    """Saves a picture of the mean pay-offs as games go on, and of the first layers' weights."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    means, weights = figure.subplots(1, 2)
    for network, values in payoffs.items():
        played = np.arange(1, len(values) + 1)
        mean, error = values.cumsum() / played, values.std() / np.sqrt(played)
        means.semilogx(played, mean, label=network)
        means.fill_between(played, mean - 2 * error, mean + 2 * error, alpha=0.2)
    means.set(xlabel="games", title="mean pay-off and two standard errors")
    means.set(xlim=(50, len(values)), ylim=(-0.5, 2))
    means.axhline(0, color="black", linestyle="--", linewidth=0.8)
    means.legend()
    for network in ("online", "target"):
        kernel = variables(params, network)["fully_connected/weights"]
        weights.hist(np.ravel(kernel), np.linspace(-2, 2, 81), alpha=0.6, label=network)
    limit = (6 / sum(kernel.shape)) ** 0.5
    weights.axvline(-limit, color="black", linestyle="--", linewidth=0.8)
    weights.axvline(limit, color="black", linestyle="--", linewidth=0.8)
    weights.set(xlabel="between the lines: initial values", title="weights of a first layer")
    weights.legend()
    figure.savefig(picture, dpi=120)


def main(games: int = 50_000, picture: str = "rlcard_tf1.png") -> float:
    """Plays with each network, saves the picture, returns the mean pay-off of the online ones."""
    params, state = restore()
    print(f"{'standard deviations of nfsp0':29} online  target")
    target = variables(params, "target")
    for name, value in variables(params, "online").items():
        print(f"{name:29} {value.std():6.3f}  {target[name].std():6.3f}")
    try:
        js.tree.select(params, "nfsp0_dqn_q")
    except js.errors.EmptySelectionError as error:  # in TF1: a copy of no variables
        print(f"with rlcard's filter: {error}")

    payoffs = {network: play(params, state, network, games) for network in SCOPES}
    draw(payoffs, params, picture)
    for network, values in payoffs.items():
        error = values.std() / len(values) ** 0.5
        print(f"{network:8} mean pay-off {values.mean():+.3f}, standard error {error:.3f}")
    print(f"picture saved to {picture}")
    return float(payoffs["online"].mean())


if __name__ == "__main__":
    main()
