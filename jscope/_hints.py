"""What stands here for a name that a module has not: names of TF1, Haiku, Flax and JAX."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable, Mapping
from types import MappingProxyType

_MODULES = (
    "jscope",
    "jscope.layers",
    "jscope.initializers",
    "jscope.getters",
    "jscope.regularizers",
    "jscope.constraints",
    "jscope.tree",
    "jscope.io",
    "jscope.interop",
    "jscope.testing",
    "jscope.errors",
)
_JAX = ("jax.numpy", "jax.nn", "jax.lax", "jax", "jax.random")

# Names are looked up without case and underscores, as there: ``LayerNorm`` is ``layer_norm``.
_SPELLINGS = {
    "jscope.add_to_collection": "sow",
    "jscope.capture": "capture_intermediates",
    "jscope.constraints.max_norm": "ClipByNorm",
    "jscope.get_variable": "get_parameter param Parameter",
    "jscope.getters.cast": "mixed_precision",
    "jscope.getters.low_rank": "lora",
    "jscope.getters.moving_average": "ema ExponentialMovingAverage",
    "jscope.getters.weight_normalization": "weight_norm",
    "jscope.grad": "gradients",
    "jscope.initializers.glorot_normal": "xavier_normal",
    "jscope.initializers.glorot_uniform": "glorot xavier xavier_uniform",
    "jscope.initializers.he_normal": "he kaiming kaiming_normal",
    "jscope.initializers.he_uniform": "kaiming_uniform",
    "jscope.initializers.lecun_normal": "lecun",
    "jscope.initializers.orthogonal": "DeltaOrthogonal",
    "jscope.initializers.variance_scaling": "uniform_unit_scaling UniformScaling",
    "jscope.is_initializing": "running_init",
    "jscope.io.open": "load load_checkpoint NewCheckpointReader list_variables load_file safe_open",
    "jscope.io.save": "save_file save_checkpoint savez Saver",
    "jscope.jit": "function",
    "jscope.layers.average_pooling2d": "avg_pool avg_pool2d average_pool",
    "jscope.layers.batch_normalization": "batch_norm",
    "jscope.layers.conv2d": "conv convolution convolution2d",
    "jscope.layers.conv2d_transpose": "conv_transpose",
    "jscope.layers.dense": "linear fully_connected DenseGeneral",
    "jscope.layers.dynamic_rnn": "rnn dynamic_unroll static_unroll static_rnn",
    "jscope.layers.embedding": "embed embed_sequence",
    "jscope.layers.gru": "gru_cell",
    "jscope.layers.layer_norm": "layer_normalization",
    "jscope.layers.lstm": "lstm_cell basic_lstm_cell OptimizedLSTMCell",
    "jscope.layers.LSTMStateTuple": "LSTMState",
    "jscope.layers.max_pooling2d": "max_pool max_pool2d",
    "jscope.layers.multi_head_attention": "MultiHeadDotProductAttention SelfAttention attention",
    "jscope.getters.spectral_normalization": "SpectralNorm SNParamsTree",
    "jscope.map": "map_fn",
    "jscope.next_rng_key": "next_rng_keys make_rng maybe_next_rng_key",
    "jscope.record": "perturb",
    "jscope.restore": "init_from_checkpoint load_state_dict restore_checkpoint",
    "jscope.scan": "foldl",
    "jscope.summary": "tabulate display model_analyzer",
    "jscope.switch": "case switch_case",
    "jscope.tree": "data_structures traverse_util",
    "jax.Array": "Tensor",
    "jax.debug.print": "Print",
    "jax.nn.logsumexp": "reduce_logsumexp",
    "jax.nn.one_hot": "one_hot_encoding",
    "jax.numpy.arange": "range",
    "jax.numpy.asarray": "convert_to_tensor constant",
    "jax.numpy.astype": "cast to_float to_int32 to_int64 to_bfloat16",
    "jax.numpy.clip": "clip_by_value",
    "jax.numpy.divide": "div",
    "jax.numpy.flip": "reverse",
    "jax.numpy.floor_divide": "floordiv",
    "jax.numpy.matmul": "batch_matmul",
    "jax.numpy.stack": "pack",
    "jax.numpy.take": "gather",
    "jax.numpy.take_along_axis": "batch_gather",
    "jax.numpy.unstack": "unpack",
    "jax.pure_callback": "py_func",
    "jax.random.categorical": "multinomial",
    "jax.random.normal": "random_normal",
    "jax.random.permutation": "random_shuffle",
    "jax.random.uniform": "random_uniform",
}

# What no single name stands for.
_INSTEAD = {
    "GraphKeys": "strings, as in jscope.get_collection('trainable_variables')",
    "DropoutWrapper": "a cell, (inputs, state) -> (outputs, state), with jscope.layers.dropout",
    "Module": "a plain function under jscope.variable_scope",
    "MultiRNNCell": "a cell, (inputs, state) -> (outputs, state), that calls each cell in a scope",
    "Sequential": "a function that calls one layer after the other",
    "Session": "the functions of a transform, net.init(rng, ...) and net.apply(params, rng, ...)",
    "Variable": "jscope.get_variable(name, initializer=value)",
    "compact": "nothing: functions that call jscope.get_variable need no decorator",
    "contrib": "jscope.layers, jscope.regularizers, jscope.arg_scope",
    "custom_creator": "variable_scope(custom_getter=...)",
    "get_local_variable": "jscope.get_variable(name, trainable=False)",
    "get_state": "jscope.get_variable(name, shape, initializer=..., trainable=False)",
    "global_variables": "jscope.named_variables(scope) in a pass, jscope.tree.flatten outside",
    "global_variables_initializer": "net.init(rng, ...)",
    "losses": "jscope.get_regularization_loss(scope) and jscope.get_regularization_losses(scope)",
    "multi_transform": "a jscope.transform for each function, over the same params",
    "name_scope": "jax.named_scope, which every variable_scope opens too",
    "nn": "jax.nn, and jscope.layers for what has variables",
    "placeholder": "an argument of the function",
    "set_random_seed": "the rng of net.init(rng, ...) and net.apply(params, rng, ...)",
    "set_state": "jscope.assign(name, value)",
    "testing": "a module to be imported by itself, import jscope.testing",
    "train": "optax, jscope.getters.moving_average, jscope.io and jscope.restore",
    "trainable_variables": "jscope.named_variables(scope, trainable=True) in a pass, "
    "jscope.tree.flatten(params) outside",
    "variable": "jscope.get_variable(name, shape, initializer=..., trainable=False)",
    "variable_creator_scope": "variable_scope(custom_getter=...)",
    "variable_op_scope": "jscope.variable_scope(name, default_name, values)",
}


def watch(module: str, edges: Mapping[str, str] = MappingProxyType({})) -> None:
    """Makes a module, which is being imported, tell what stands for a name that it has not.

    Not by a ``def __getattr__`` in it, for which type checkers would accept every name.

    Args:
      module: Its name.
      edges: Names that it has -> the module each is, or is in, which is imported at the first use.
    """

    def missing(name: str) -> object:
        if name in edges:
            home = importlib.import_module(edges[name])
            found = home if edges[name] == f"{module}.{name}" else getattr(home, name)
            return sys.modules[module].__dict__.setdefault(name, found)
        text = f"module {module!r} has no attribute {name!r}"
        hint = "" if name.startswith("_") else _hint(module, name)
        raise AttributeError(text + hint, name=name)

    sys.modules[module].__dict__["__getattr__"] = missing


def _hint(module: str, name: str) -> str:
    found = [_INSTEAD[name]] if name in _INSTEAD else _homes(module, name)
    if found:
        return f": here it is {' or '.join(found)}"
    import difflib  # here, because most programs never need it

    near = difflib.get_close_matches(name, _public(module), 1, cutoff=0.7)
    return f". Did you mean: {near[0]!r}?" if near else ""


def _homes(module: str, name: str) -> list[str]:
    """Where the name is found: in the module itself, or else everywhere in jscope and in JAX."""
    key, kind = _key(name)
    found = [
        f"{home}.{other}" for home in _MODULES for other in _public(home) if _key(other)[0] == key
    ]
    found += [
        path for path, names in _SPELLINGS.items() if any(_key(x)[0] == key for x in names.split())
    ]
    if kind:
        return [path for path in found if path.startswith(f"jscope.{kind}s.")]
    own = [path for path in found if path.rpartition(".")[0] == module]
    top = [path for path in found if path.count(".") == 1]
    return own or list(dict.fromkeys([*top, *_in_jax(module, name), *found]))


def _public(module: str) -> Iterable[str]:
    return getattr(sys.modules.get(module), "__all__", ())


def _key(name: str) -> tuple[str, str]:
    """What a name is looked up by, and the kind that it says it is of: ``l2_regularizer``."""
    kind = re.search(r"(initializer|regularizer)$", name, flags=re.IGNORECASE)
    stem = name[: kind.start()] if kind else name
    return stem.replace("_", "").lower(), kind[0].lower() if kind else ""


def _in_jax(module: str, name: str) -> list[str]:
    """The first home that a name, or TF's spelling of it, has in JAX."""
    homes = ("jax.tree", *_JAX) if module == "jscope.tree" else (*_JAX, "jax.tree")
    for spelling in (name, re.sub("^(reduce|tree)_", "", name)):
        for home in homes:
            for other in dir(sys.modules.get(home)):
                if not other.startswith("_") and _key(other) == _key(spelling):
                    return [f"{home}.{other}"]
    return []
