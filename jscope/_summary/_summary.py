"""summary: what a network is made of, before anything is computed."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from typing import Any

from jscope import _jaxapi
from jscope._arguments import bad_argument, can_call, check_size
from jscope._outline import Entry, size_text
from jscope._params import Params, PyTree
from jscope._summary._cost import Costs
from jscope._summary._facts import Row, ScopeRow, Total, rows_of, scopes_of, total_of
from jscope._summary._graph import Graph, dot, graph_of, mermaid
from jscope._summary._page import Page
from jscope._summary._run import Run
from jscope._summary._text import Tree, coloured, text, tree_of
from jscope._transform import is_network
from jscope.errors import FileError


@dataclasses.dataclass(frozen=True, repr=False)
class Summary:
    """What a network is made of; ``jscope.summary`` makes it.

    ``str`` of it is a table, as wide as the terminal at most. ``rich.print`` shows it in colours,
    and a notebook as a tree that folds.

    Attributes:
      title: The name of the function.
      rows: One for each variable, in order of creation: ``name``, ``shape``, ``dtype``, ``size``,
        ``nbytes``, ``trainable``, ``partition``, ``device_nbytes``, ``initializer``,
        ``regularizer``, ``sites`` and ``shared_by``, the ``scope`` and ``sites`` of each later
        request.
      scopes: One for each scope, the root first: ``name``, the number of its ``calls``, and of all
        that is in it ``size`` (``state_size`` of it not trainable), ``nbytes``, ``device_nbytes``,
        ``flops`` and ``accessed``; ``inputs`` and ``outputs`` of its first call.
      total: ``size`` of what is trainable, ``state_size`` of what is not, ``nbytes``,
        ``device_nbytes``, ``flops``, ``accessed``, and ``dtypes``: bytes by dtype.
      depth: How many levels of scopes are drawn; None for all.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> net = js.transform(lambda x: js.layers.dense(x, 4))
      >>> found = js.summary(net, jnp.ones([2, 3]))
      >>> found
      Summary('<lambda>', 2 variables, 16 parameters, 64 B)
      >>> [(row.name, row.size) for row in found.rows]
      [('dense/kernel', 12), ('dense/bias', 4)]
      >>> found.total.flops == 2 * 2 * 3 * 4
      True
    """

    title: str
    rows: tuple[Row, ...]
    scopes: tuple[ScopeRow, ...]
    total: Total
    depth: int | None
    _entries: tuple[Entry, ...] = dataclasses.field(compare=False)

    def __repr__(self) -> str:
        count = len(self.rows)
        return (
            f"Summary({self.title!r}, {count:,} variable{'s' * (count != 1)}, "
            f"{self.total.size:,} parameters, {size_text(self.total.nbytes)})"
        )

    def __str__(self) -> str:
        return "\n".join(self._lines(shutil.get_terminal_size((100, 24)).columns))

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        yield coloured(self._lines(options.max_width))

    def _lines(self, width: int) -> list[str]:
        return text(self.title, self._tree(), self.total, self.depth, width)

    def _repr_html_(self) -> str:
        return self._page().fragment(self.depth)

    def _tree(self) -> Tree:
        return tree_of(self.rows, self.scopes, self._entries)

    def _page(self) -> Page:
        return Page(self.title, self._tree(), self.total)

    def to_mermaid(self) -> str:
        """The scopes as a flowchart in Mermaid's language; dotted edges are shared variables.

        From the scope that asks again to the one that has the variables. Scopes below ``depth``
        are drawn as part of those that they are in.
        """
        return mermaid(self._graph())

    def to_dot(self) -> str:
        """The same in Graphviz' language."""
        return dot(self._graph())

    def _graph(self) -> Graph:
        return graph_of(self.title, self.rows, self.scopes, self.depth)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes one HTML file with all of it, which needs no network and no other file.

        It finds, folds and sorts, and tells of each variable where it was made, and who shares it
        from where.

        Args:
          path: A file, ``"model.html"``, that is written over.

        Raises:
          ArgumentError: (ValueError, TypeError) ``path`` is none that ends in ``.html``.
          FileError: (ValueError, OSError) it cannot be written.
        """
        is_path = isinstance(path, str | os.PathLike)
        if not is_path or not str(path).lower().endswith((".html", ".htm")):
            raise bad_argument("path", path, 'the path of an HTML file, such as "model.html"')
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write(self._page().document())
        except OSError as error:
            raise _cannot_write(str(path), error) from error


def _cannot_write(path: str, error: OSError) -> FileError:
    return FileError(
        f"{path}: the summary cannot be written: {error.strerror or error}.",
        {"fix": "give a path in a folder that is there and can be written to."},
        path=path,
        offset=None,
    )


@_jaxapi.entry
def summary(net: PyTree, /, *args: PyTree, depth: int | None = None, **kwargs: PyTree) -> Summary:
    """What a network is made of: its variables and scopes, who shares what, what they cost.

    The function runs once without values, as in ``specs``: nothing is computed and no array made.
    FLOPs are counted from the traced program, of its matrix products and convolutions (two for
    each multiplication, padding counted), times the lengths of scans; of a ``while_loop`` one
    iteration, and all branches of a ``cond``. They are those of ``init``, where a function asks
    ``is_initializing``. ``accessed`` is what each operation by itself reads and writes: an upper
    bound, because XLA joins operations.

    Args:
      net: Of ``transform``, ``transform_with_state``, ``sharded`` or ``without_apply_rng``.
      *args: Arguments of its function; arrays are used for shape and dtype only, so
        ``jax.ShapeDtypeStruct`` will do.
      depth: How many levels of scopes are drawn, 1 or more; what is below is part of their numbers.
        An argument of the function that has this name is given by position.
      **kwargs: More arguments of the function, which takes no params and no key here.

    Returns:
      A Summary. Print it, or ``.save("model.html")``.

    Raises:
      ArgumentError: (ValueError, TypeError) ``net`` is no network, or ``depth`` is not 1 or more.
      JscopeError: As ``net.specs``.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def mlp(x):
      ...     return js.layers.dense(js.layers.dense(x, 8, jax.nn.relu, name="hidden"), 2)
      >>> found = js.summary(js.transform(mlp), jnp.ones([3, 4]), depth=1)
      >>> [(scope.name, scope.size, scope.flops) for scope in found.scopes]
      [('', 58, 288), ('hidden', 40, 192), ('dense', 18, 96)]
    """
    if not is_network(net):
        fix = "give the network itself, jscope.summary(jscope.transform(fn), ...)."
        wanted = "what transform returns"
        raise bad_argument("argument of summary", net, wanted, fix if callable(net) else None)
    if depth is not None:
        depth = check_size("depth", depth)
    try:
        run = Run(net, args, kwargs)
    except Exception as error:
        given = any(isinstance(x, Params) for x in args)
        if given or not can_call(net.specs, *args, **kwargs):
            error.add_note("summary takes what net.specs takes: no params, no state and no key.")
        raise
    rows = rows_of(run)
    scopes = scopes_of(run, rows, Costs(run.jaxpr, run.openings))
    return Summary(run.title, rows, scopes, total_of(rows, scopes[0]), depth, tuple(run.entries))
