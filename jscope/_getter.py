"""How a custom getter is called, and what it is given."""

from __future__ import annotations

from typing import Any

from jscope import _pass
from jscope._names import check_name, not_a_name
from jscope._pass import Pass
from jscope._request import Request, answer, check_above
from jscope._reuse import check_reuse
from jscope._settings import CustomGetter
from jscope._shape_dtype import FLOAT32, as_constant, asked_dtype, dtype_or_none


def call_getter(running: Pass, getter: CustomGetter, asked: Request) -> Any:
    """Calls a custom getter as TF1 does: by keyword, with full name and the scope's defaults."""
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
    result = getter(getter=true_getter, **asked._asdict())
    running.records.renamed.pop(asked.name, None)
    if len(names) == 1:
        (running.records.renamed[asked.name],) = names
    return result
