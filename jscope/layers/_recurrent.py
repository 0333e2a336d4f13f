"""Recurrent cells and the loop over time: lstm, gru, dynamic_rnn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from jscope import _pass
from jscope._arg_scope import add_arg_scope
from jscope._arguments import bad_argument, check_size
from jscope._params import PyTree
from jscope._report import where
from jscope._reuse import Reuse
from jscope._scope import get_variable_scope, variable_scope
from jscope._seeing import record
from jscope._sharding import along_batch, like, rows_of, whole
from jscope._spec import InitializerLike
from jscope._template import Template, make_template
from jscope._twins import scan
from jscope.errors import ReuseError, Site
from jscope.layers._arguments import Activation, Name, check_activation, check_array, takes_tf1
from jscope.layers._weights import Weight, ones, zeros

Out = TypeVar("Out")
State = TypeVar("State")


class LSTMStateTuple(NamedTuple):
    """The state of an ``lstm``, as TF1's class of that name.

    Attributes:
      c: The memory, floats [batch, units].
      h: What the cell put out last, floats [batch, units].

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> state = js.layers.LSTMStateTuple(c=jnp.zeros([2, 8]), h=jnp.ones([2, 8]))
      >>> state.h.shape
      (2, 8)
    """

    c: PyTree
    h: PyTree


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Cell:
    """One step of a recurrent network; ``cell(inputs, state)`` gives ``(outputs, new state)``.

    Its first call in a pass makes its variables in the scope that is open, and others share them.
    Called under another scope it is refused, as in TF 1.1, unless that scope reuses: two layers of
    ``[cell] * 2`` would be one.

    Attributes:
      state_size: Sizes of the state's last axes, in the structure of the state.
      output_size: Size of the outputs' last axis.
    """

    state_size: PyTree
    output_size: int
    _step: Template[..., tuple[jax.Array, PyTree]]

    def __call__(self, inputs: jax.Array, state: PyTree) -> tuple[jax.Array, PyTree]:
        """One step: inputs [batch, features], and the state."""
        self._check_scope()
        return self._step(inputs, state)

    def _check_scope(self) -> None:
        running = _pass.current("a recurrent cell")
        home, first = running.homes.setdefault(self, (running.prefix, running.here()))
        if running.prefix != home and not running.settings.reuse:
            raise _another_scope(self._step.name, home, running.prefix, first, running.here())

    def zero_state(self, batch_size: int, dtype: DTypeLike = jnp.float32) -> PyTree:
        """A state of zeros, [batch_size, size] for each size of ``state_size``."""
        return jax.tree.map(lambda size: jnp.zeros([batch_size, size], dtype), self.state_size)


@add_arg_scope
@takes_tf1(
    "cell_clip",
    "num_proj",
    "num_proj_shards",
    "num_unit_shards",
    "proj_clip",
    "state_is_tuple",
    "use_peepholes",
)
def lstm(
    units: int,
    forget_bias: float = 1.0,
    *,
    activation: Activation | None = None,
    initializer: InitializerLike = None,
    name: str | None = None,
    reuse: Reuse | None = None,
) -> Cell:
    """Makes a cell with a long short-term memory, as TF1's ``LSTMCell`` and ``BasicLSTMCell``.

    The cell makes ``kernel`` [features + units, 4 * units], in the order input gate i, new values
    j, forget gate f, output gate o, and ``bias`` [4 * units], of the dtype that a scope sets, else
    the inputs'. It computes in the inputs' dtype
    ``c = sigmoid(f + forget_bias) * c + sigmoid(i) * tanh(j)``, ``h = sigmoid(o) * tanh(c)``.

    Args:
      units: Size of the outputs, and of either part of the state.
      forget_bias: Added to the forget gate, whose variables start around zero.
      activation: In place of tanh.
      initializer: Of the kernel; else the scope's, else glorot_uniform. The bias starts at zero.
      name: Name of the scope; else "lstm_cell". Give "basic_lstm_cell" for the names of a
        ``BasicLSTMCell``. Another cell of that name in one scope is numbered, as in TF1.
      reuse: As of ``variable_scope``; then the name is not numbered. One cell always shares with
        itself.

    Returns:
      ``cell(inputs, state) -> (h, LSTMStateTuple(c, h))``, for inputs [batch, features] and a state
      of two arrays [batch, units], with ``cell.zero_state(batch_size, dtype)``, ``cell.state_size``
      and ``cell.output_size``. For ``dynamic_rnn``, or to be called step by step.

    Raises:
      ArgumentError: (ValueError, TypeError) an argument cannot be used.
      ReuseError: (ValueError) the cell is called under another scope than first, without reuse.
      JscopeError: As ``get_variable`` and ``make_template``; when the cell is called.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def two_steps(x):
      ...     cell = js.layers.lstm(8)
      ...     _, state = cell(x, cell.zero_state(len(x)))
      ...     return cell(x, state)[0]
      >>> js.transform(two_steps).init(0, jnp.ones([2, 3]))
      Params({'lstm_cell': {'kernel': float32[11,32], 'bias': float32[32]}})
    """
    units = check_size("units", units)
    check_activation(activation)
    squash = activation or jnp.tanh

    def step(inputs: jax.Array, state: PyTree) -> tuple[jax.Array, LSTMStateTuple]:
        inputs = check_array("inputs", inputs, "[batch, features]", lambda ndim: ndim == 2)
        c, h = _check_state(state, 2, units, inputs)
        gates = _affine((inputs, h), 4 * units, Weight(initializer), Weight(zeros))
        i, j, f, o = jnp.split(gates, 4, axis=1)
        c = jax.nn.sigmoid(f + forget_bias) * c + jax.nn.sigmoid(i) * squash(j)
        h = record("output", jax.nn.sigmoid(o) * squash(c))
        return h, LSTMStateTuple(c, h)

    return _cell(step, LSTMStateTuple(units, units), units, name or "lstm_cell", reuse)


@add_arg_scope
@takes_tf1()
def gru(
    units: int,
    activation: Activation | None = None,
    reuse: Reuse | None = None,
    kernel_initializer: InitializerLike = None,
    bias_initializer: InitializerLike = None,
    name: str | None = None,
) -> Cell:
    """Makes a gated recurrent unit, as TF1's ``GRUCell``.

    The cell makes ``gates/kernel`` [features + units, 2 * units], in the order reset gate r, update
    gate u, ``gates/bias`` [2 * units], ``candidate/kernel`` [features + units, units] and
    ``candidate/bias`` [units], of dtypes as of ``lstm``. The candidate n sees the inputs and
    ``r * h``, and ``h = u * h + (1 - u) * n``.

    As ``lstm``, with:
      units: Size of the outputs and of the state.
      activation: Of the candidate, in place of tanh.
      reuse: As of ``lstm``.
      kernel_initializer: Else the scope's, else glorot_uniform.
      bias_initializer: Else ones for the gates, so that the state is kept at first, and zeros for
        the candidate.
      name: Name of the scope; else "gru_cell". Another cell of that name in one scope is numbered,
        as in TF1.

    Returns:
      A cell as of ``lstm``: ``cell(inputs, state) -> (h, h)``, for a state [batch, units].

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def encode(x):
      ...     return js.layers.dynamic_rnn(js.layers.gru(8), x)[1]
      >>> net = js.transform(encode)
      >>> x = jnp.ones([2, 5, 3])
      >>> params = net.init(0, x)
      >>> params["rnn"]["gru_cell"]["candidate"]
      Params({'kernel': float32[11,8], 'bias': float32[8]})
      >>> net.apply(params, None, x).shape
      (2, 8)
    """
    units = check_size("units", units)
    check_activation(activation)
    squash = activation or jnp.tanh
    kernel = Weight(kernel_initializer)
    gate_bias, bias = (
        Weight(start if bias_initializer is None else bias_initializer) for start in (ones, zeros)
    )

    def step(inputs: jax.Array, state: PyTree) -> tuple[jax.Array, jax.Array]:
        inputs = check_array("inputs", inputs, "[batch, features]", lambda ndim: ndim == 2)
        (h,) = _check_state([state], 1, units, inputs)
        gates = _affine((inputs, h), 2 * units, kernel, gate_bias, "gates/")
        r, u = jnp.split(jax.nn.sigmoid(gates), 2, axis=1)
        new = squash(_affine((inputs, r * h), units, kernel, bias, "candidate/"))
        h = record("output", u * h + (1 - u) * new)
        return h, h

    return _cell(step, units, units, name or "gru_cell", reuse)


@add_arg_scope
@takes_tf1("parallel_iterations", "swap_memory")
def dynamic_rnn(
    cell: Callable[[jax.Array, State], tuple[Out, State]],
    inputs: jax.Array,
    sequence_length: ArrayLike | Sequence[int] | None = None,
    initial_state: State | None = None,
    dtype: DTypeLike | None = None,
    *,
    time_major: bool = False,
    scope: Name = None,
) -> tuple[Out, State]:
    """Runs a cell over time, in one ``scan``, as TF1's ``tf.nn.dynamic_rnn``.

    The scope "rnn" is not numbered, as in TF1: a second network in one scope needs a ``scope`` of
    its own. The loop is ``jscope.scan``, so cells may draw keys and assign state.

    Args:
      cell: ``cell(inputs, state) -> (outputs, new state)``: one of ``lstm`` or ``gru``, or any
        function of arrays [batch, ...] that keeps the structure, shapes and dtypes of the state.
      inputs: Array [batch, time, ...], or [time, batch, ...] if ``time_major``. Each device of a
        mesh goes through all times, also where Explicit axes divide them.
      sequence_length: Integers [batch]: how many steps each example has. From there on its outputs
        are zeros, and its state stays as it was. None: all of them.
      initial_state: The state to start from; else ``cell.zero_state(batch, dtype)``.
      dtype: Of that zero state; else the inputs'.
      time_major: Whether time comes before batch, in inputs and outputs.
      scope: Name of the scope, or a scope; else "rnn".

    Returns:
      ``(outputs, state)``: outputs [batch, time, units], or [time, batch, units] if ``time_major``,
      and the last state.

    Raises:
      ArgumentError: (ValueError, TypeError) an argument cannot be used.
      JscopeError: As ``get_variable`` and ``variable_scope``.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def read(x, lengths):
      ...     return js.layers.dynamic_rnn(js.layers.lstm(8), x, lengths)
      >>> net = js.transform(read)
      >>> x, lengths = jnp.ones([2, 5, 3]), jnp.array([5, 2])
      >>> params = net.init(0, x, lengths)
      >>> params
      Params({'rnn': {'lstm_cell': {'kernel': float32[11,32], 'bias': float32[32]}}})
      >>> outputs, state = net.apply(params, None, x, lengths)
      >>> outputs.shape, state.h.shape, outputs[1, 2:].any().tolist()
      ((2, 5, 8), (2, 8), False)
    """
    if not callable(cell):
        raise bad_argument("cell", cell, "a function of inputs and state")
    axes = "[time, batch, ...]" if time_major else "[batch, time, ...]"
    inputs = check_array("inputs", inputs, axes, lambda ndim: ndim >= 2, jnp.generic)
    xs = whole(inputs if time_major else inputs.swapaxes(0, 1), 0)  # a loop takes one by one
    steps, batch = xs.shape[:2]
    if initial_state is None:
        if not hasattr(cell, "zero_state"):
            raise bad_argument("cell", cell, "given an initial_state, or have a zero_state")
        initial_state = cell.zero_state(batch, dtype or inputs.dtype)

    elif isinstance(cell, Cell):  # a plain pair will do for an LSTMStateTuple
        leaves = jax.tree.leaves(initial_state)
        if len(leaves) == len(jax.tree.leaves(cell.state_size)):
            initial_state = jax.tree.unflatten(jax.tree.structure(cell.state_size), leaves)
    if isinstance(cell, Cell):  # a loop cannot change the layout of its state
        first = xs[0]
        initial_state = jax.tree.map(lambda part: along_batch(part, first), initial_state)

    def step(state: PyTree, x: jax.Array) -> tuple[PyTree, PyTree]:
        outputs, state = cell(x, state)
        return state, outputs

    def step_until_the_end(
        state: PyTree, marked: tuple[jax.Array, jax.Array]
    ) -> tuple[PyTree, PyTree]:
        is_past, x = marked
        new, outputs = step(state, x)
        nothing = jax.tree.map(jnp.zeros_like, outputs)
        return _where(is_past, state, new), _where(is_past, nothing, outputs)

    with variable_scope("rnn" if scope is None else scope):
        if sequence_length is None:
            state, outputs = scan(step, initial_state, xs)
        else:
            lengths = along_batch(_check_lengths(sequence_length, batch), xs[0])
            are_past = jnp.arange(steps)[:, None] >= lengths[None]
            state, outputs = scan(step_until_the_end, initial_state, (are_past, xs))
        if not time_major:
            outputs = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), outputs)
        return record("output", outputs), state


def _cell(
    step: Callable[[jax.Array, PyTree], tuple[jax.Array, PyTree]],
    state_size: PyTree,
    units: int,
    name: str,
    reuse: Reuse | None,
) -> Cell:
    def shared(inputs: jax.Array, state: PyTree) -> tuple[jax.Array, PyTree]:
        with variable_scope(get_variable_scope(), reuse=reuse):
            return step(inputs, state)

    if reuse:
        template = make_template(name, shared, unique_name_=name)
    else:
        template = make_template(name, step)
    return Cell(state_size, units, template)


def _another_scope(
    name: str, home: str, prefix: str, first: tuple[Site, ...], again: tuple[Site, ...]
) -> ReuseError:
    return ReuseError(
        f"Attempt to reuse cell {name} with a different variable scope than its first use: first "
        f"{_scope(home)}, now {_scope(prefix)}.",
        {
            "first": f"at {where(first)}",
            "again": f"at {where(again)}",
            "fix": "make a cell for each layer, [lstm(n) for _ in range(2)] in place of "
            "[lstm(n)] * 2; to share the first's variables, open the scope with reuse=True.",
        },
        reuse="False",
    )


def _scope(prefix: str) -> str:
    return repr(prefix) if prefix else "the root scope"


def _affine(
    inputs: Sequence[jax.Array], units: int, kernel: Weight, bias: Weight, prefix: str = ""
) -> jax.Array:
    """Arrays [batch, any] side by side, times a kernel, plus a bias: [batch, units]."""
    joined = jnp.concatenate([along_batch(part, inputs[-1]) for part in inputs], axis=1)
    w = kernel.use(f"{prefix}kernel", [joined.shape[1], units], joined.dtype)
    b = bias.use(f"{prefix}bias", [units], joined.dtype)
    outputs = jnp.dot(joined, w, out_sharding=rows_of(joined, w))
    return outputs + like(b[None], outputs)


def _check_state(state: PyTree, parts: int, units: int, inputs: jax.Array) -> Sequence[jax.Array]:
    """The arrays of a state, each [batch, units], laid out like the inputs [batch, ...]."""
    shape = (inputs.shape[0], units)
    found = state if isinstance(state, list | tuple) else []
    if [getattr(part, "shape", None) for part in found] == [shape] * parts:
        return [along_batch(part, inputs) for part in found]
    kind = "an array" if parts == 1 else f"{parts} arrays"
    given = state[0] if parts == 1 else state
    raise bad_argument("state", given, f"{kind} {list(shape)}")


def _check_lengths(lengths: ArrayLike | Sequence[int], batch: int) -> jax.Array:
    given = jnp.asarray(lengths) if isinstance(lengths, list | tuple) else lengths
    found = check_array("sequence_length", given, f"[{batch}]", lambda ndim: ndim == 1, jnp.integer)
    if found.shape != (batch,):
        raise bad_argument("sequence_length", lengths, f"integers [{batch}]")
    return found.astype(jnp.arange(0).dtype)


def _where(is_past: jax.Array, old: PyTree, new: PyTree) -> PyTree:
    """Old where an example, of [batch], is past its end, else new; scalars are new, as in TF1."""

    def choose(old: jax.Array, new: jax.Array) -> jax.Array:
        if new.ndim == 0:
            return new
        return jnp.where(is_past.reshape(-1, *[1] * (new.ndim - 1)), old, new)

    return jax.tree.map(choose, old, new)
