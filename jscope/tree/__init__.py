"""Pure functions over params, state, gradients, specs and optimizer states, by full name.

A pattern says which names are meant. It is

- a path, matched by whole components: ``"gen"`` is the variable ``gen``, or the scope ``gen`` and
  all in it, and never ``generator/w``; ``""`` is everything, ``"gen/"`` what is in the scope;
- a glob, matched with the whole name: ``*`` stands for any text within one component, ``?`` for
  one character, ``[ab]`` and ``[!ab]`` for one of a set, and the component ``**`` for any number
  of components, none included: ``"**/bias"``, ``"encoder/**"``, ``"layer_[0-3]/**"``;
- a compiled ``re.Pattern``, searched in the full name;
- a function of (name, leaf) that returns a bool;
- a list, tuple or set of patterns: what any of them means, where each has to mean something.

A pattern that selects nothing is an ``EmptySelectionError``, unless ``allow_empty=True``.

The name of a leaf is its path in the nested mapping. In a pytree that holds such mappings, as the
state of an optimizer does, it is the path in the innermost one; a leaf in none, such as a count of
steps, has the empty name.

Nothing here knows about passes.
"""

from jscope._hints import watch
from jscope.tree._names import flatten, map_with_name, unflatten
from jscope.tree._rename import rename
from jscope.tree._select import labels, mask, merge, partition, select, update
from jscope.tree._size import count, nbytes
from jscope.tree._stacks import stack_layers, unstack_layers

__all__ = [
    "count",
    "flatten",
    "labels",
    "map_with_name",
    "mask",
    "merge",
    "nbytes",
    "partition",
    "rename",
    "select",
    "stack_layers",
    "unflatten",
    "unstack_layers",
    "update",
]


def __dir__() -> list[str]:
    return __all__


watch(__name__)
