"""Arguments that a call has not: those of TF1's that ask for nothing, and which was meant."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from jscope._arguments import as_bool
from jscope._report import brief, near_names, quoted
from jscope.errors import ArgumentError


class _Gone(NamedTuple):
    """An argument of TF1's that is none here."""

    nothing: tuple[object, ...] = ()
    """The values that ask for nothing; if there are none, no value does more."""
    instead: str = ""
    """What to do for the other values."""

    def asks_for_nothing(self, value: object) -> bool:
        return not self.nothing or any(
            value is nothing or (nothing is not None and as_bool(value) is nothing)
            for nothing in self.nothing
        )


_CELL = "write the cell, a function (inputs, state) -> (outputs, state), for dynamic_rnn."

_GONE = {
    "_reuse": _Gone((None, False), "call it 'reuse', as it is here."),
    "_scope": _Gone((None,), "call it 'name', as it is here."),
    "activity_regularizer": _Gone((None,), "add the loss of the outputs to yours."),
    "adjustment": _Gone((None,), "scale and shift the outputs yourself."),
    "aggregation": _Gone(),
    "caching_device": _Gone(),
    "cell_clip": _Gone((None,), _CELL),
    "max_norm": _Gone((None,), "scale the rows that are longer yourself."),
    "name": _Gone(),  # of an operation without variables
    "num_proj": _Gone((None,), _CELL),
    "num_proj_shards": _Gone(),
    "num_unit_shards": _Gone(),
    "outputs_collections": _Gone((None,), "call jscope.add_to_collection(key, outputs)."),
    "parallel_iterations": _Gone(),
    "partition_strategy": _Gone(),
    "proj_clip": _Gone((None,), _CELL),
    "renorm": _Gone((False,), "normalise by the batch, renorm=False."),
    "renorm_clipping": _Gone(),  # only renorm reads it
    "renorm_momentum": _Gone(),
    "state_is_tuple": _Gone((True,), "join and split c and h yourself."),
    "swap_memory": _Gone(),
    "synchronization": _Gone(),
    "updates_collections": _Gone(),
    "use_peepholes": _Gone((False,), _CELL),
    "use_resource": _Gone(),
    "validate_indices": _Gone(),
    "validate_shape": _Gone((True,), "give the shape: that of a variable never changes."),
    "variables_collections": _Gone((None,), "call get_variable with collections=[...]."),
    "virtual_batch_size": _Gone((None,), "split the batch yourself, by jax.vmap."),
}

# Names of TF1's and of its contrib -> names here, of which a call has at most one.
_NEW_NAMES = {
    "activation_fn": ("activation",),
    "biases_initializer": ("bias_initializer",),
    "biases_regularizer": ("bias_regularizer",),
    "decay": ("momentum",),
    "embeddings_initializer": ("initializer",),
    "input_dim": ("vocabulary",),
    "is_training": ("training",),
    "keep_prob": ("rate",),
    "kernel_size": ("pool_size",),
    "ksize": ("pool_size", "kernel_size"),
    "name": ("scope",),
    "num_outputs": ("units", "filters"),
    "num_units": ("units",),
    "output_dim": ("units",),
    "partition": ("partitioner",),
    "rate": ("dilation_rate",),
    "scope": ("name",),
    "stride": ("strides",),
    "weights_initializer": ("kernel_initializer",),
    "weights_regularizer": ("kernel_regularizer",),
}


def check_others(
    call: str, others: Mapping[str, object], known: Collection[str], gone: Collection[str] = ()
) -> None:
    """Raises ArgumentError for arguments that a call has not, unless they ask for nothing.

    Args:
      call: Its name.
      others: The arguments that it has not.
      known: The names of those that it has.
      gone: The names of those that it had in TF1.
    """
    for name, value in others.items():
        if name not in gone:
            raise _unknown(call, name, known)
        if not _GONE[name].asks_for_nothing(value):
            raise _asks_for_more(call, name, value)


def _asks_for_more(call: str, name: str, value: object) -> ArgumentError:
    nothing = " or ".join(map(repr, _GONE[name].nothing))
    return ArgumentError(
        f"{call} takes no {name} but {nothing}, got {brief(value)}.",
        {"fix": _GONE[name].instead},
        argument=name,
        value=brief(value),
    )


def _unknown(call: str, name: str, known: Collection[str]) -> ArgumentError:
    lines: dict[str, str | None] = {}
    new = [other for other in _NEW_NAMES.get(name, ()) if other in known]
    if new:
        more = ", which is 1 - keep_prob" if name == "keep_prob" else ""
        lines["fix"] = f"call it {new[0]!r}, as it is here{more}."
    elif name == "reuse":
        lines["fix"] = "open the scope with it, variable_scope(name, reuse=...)."
    else:
        near = near_names(name, known)
        lines["near"] = quoted(near) if near else None
    # In Python's words, which users know and search for.
    return ArgumentError(
        f"{call}() got an unexpected keyword argument {name!r}", lines, argument=name
    )
