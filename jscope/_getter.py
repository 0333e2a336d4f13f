"""How a custom getter is called, and what it is given."""

from __future__ import annotations

from typing import Any

from jscope import _pass
from jscope._names import check_name, not_a_name
from jscope._pass import Pass
from jscope._reading import Inner
from jscope._request import Request, answer, check_above
from jscope._reuse import check_reuse
from jscope._settings import CustomGetter, call
from jscope._shape_dtype import FLOAT32, as_constant, asked_dtype, dtype_or_none


def ask(
    running: Pass, asked: Request, getter: CustomGetter | None = None, *, inherits: bool = False
) -> Any:
    """The answer to a request, by custom getters if there are any.

    Args:
      running: The pass.
      asked: The request.
      getter: One that the request gave in place of those of the scopes.
      inherits: Whether its mode of reuse is that of the open scope.
    """
    if type(running.values) is Inner:
        return running.values.asked(running.level, asked.name)
    chosen = running.settings.custom_getter if getter is None else getter
    if chosen is None:
        if running.records.renamed:
            running.records.renamed.pop(asked.name, None)
        value, names = answer(running, asked), {asked.name}
    else:
        value, names = call_getter(running, chosen, asked)
    if running.recorder is not None:
        running.recorder.requested(
            running.prefix,
            asked,
            running.records.get(asked.name) if chosen is None else None,
            running.calls.observe(running.level)[0],
            inherits=inherits,
            getter="" if chosen is None else "scope" if getter is None else "own",
            names=names,
        )
    return value


def call_getter(running: Pass, getter: CustomGetter, asked: Request) -> tuple[Any, set[str]]:
    """Calls a custom getter as TF1 does: by keyword, with full name and the scope's defaults.

    Returns what it gives, and the names that it asks for.
    """
    settings = running.settings
    initializer = settings.initializer if asked.initializer is None else asked.initializer
    constant = as_constant(running, asked.name, initializer)
    check_above(running, asked.name)  # a getter may have made a scope of the name itself
    found = asked_dtype(running, asked.name, asked.dtype, constant, settings)
    resolved = found or FLOAT32
    names: set[str] = set()  # what the getter asks for

    def true_getter(*args: Any, **kwargs: Any) -> Any:
        inner = _pass.current("a custom getter's getter")
        wanted = Request(*args, **kwargs)
        if not isinstance(wanted.name, str):
            raise not_a_name(wanted.name)
        check_name(wanted.name, "variable")
        names.add(wanted.name)
        inner.records.last = wanted.name
        if wanted.reuse is None:
            wanted = wanted._replace(reuse=settings.reuse)
        else:
            check_reuse(wanted.reuse)
        if found is None and wanted.dtype is not None and dtype_or_none(wanted.dtype) == resolved:
            wanted = wanted._replace(dtype=None)  # the default, passed on: nobody asked for it
        return answer(inner, wanted)

    inherited = {
        name: getattr(settings, name)
        for name in ("regularizer", "partitioner", "constraint")
        if getattr(asked, name) is None
    }
    asked = asked._replace(dtype=resolved, initializer=initializer, **inherited)
    result = call(getter, true_getter, asked._asdict())
    running.records.renamed.pop(asked.name, None)
    if len(names) == 1:
        (running.records.renamed[asked.name],) = names
    return result, names
