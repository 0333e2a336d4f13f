"""Where state may be assigned and keys drawn: not where a transform would repeat or lose them."""

from __future__ import annotations

from jscope._calls import Crossing
from jscope._jaxapi import Transform
from jscope._level import Level
from jscope._pass import Pass
from jscope._report import where
from jscope.errors import Site, TransformError


def _instead(transform: str, twin: str | None, *, why: str) -> str:
    if transform == "jax.named_call":
        return "open `with jax.named_scope(name):` instead, which is no function of its own."
    if twin == "vmap" and "state" in why:
        return (
            "use jscope.vmap(variables='split'), where each instance has variables of its own, or "
            "return the values and assign one outside."
        )
    if twin is not None:
        return f"use jscope.{twin}, which takes the same arguments and {why}."
    return (
        "wrap the function, pure, carry = jscope.functionalize(fn), pass the carry through the "
        "transform, and write it back, jscope.put_carry(carry)."
    )


_SHARED = {
    "jscope.vmap(variables='share')": (
        "every instance would assign a value of its own",
        "return the values and assign one outside, or use jscope.vmap(variables='split'), where "
        "each instance has variables of its own.",
    ),
    "jscope.vmap(variables='split')": (
        "it was made outside, and every instance would assign a value of its own",
        "make the variable inside the function, or return the values and assign one outside.",
    ),
    "jscope.map(batch_size=...)": (
        "the elements of a batch run side by side, and each would assign a value of its own",
        "leave batch_size out, or return the values and assign one outside.",
    ),
    "jscope.while_loop(cond_fun)": (
        "the condition of a loop only looks at its state",
        "assign it in body_fun.",
    ),
}


def bars_draw(level: Level, crossing: Crossing) -> Transform | None:
    """The transform that would repeat a key drawn here, if any."""
    if level.bars_draw is not None:
        return level.bars_draw
    return next((transform for transform in crossing.transforms if not transform.once), None)


def bars_assign(level: Level, crossing: Crossing) -> Transform | None:
    """What would keep a value assigned here from getting out, if anything."""
    if level.bars_assign is not None:
        return level.bars_assign
    return next(iter(crossing.transforms), None)


def check_draw(running: Pass) -> None:
    """Raises TransformError where a draw would repeat; to be called before each draw."""
    crossing = running.calls.crossing(running.level)
    bar = bars_draw(running.level, crossing)
    if bar is not None:
        raise _bars_draw(bar.name, bar.twin, running.here())
    running.level.enter_branches(crossing.branches)


def _bars_draw(transform: str, twin: str | None, sites: tuple[Site, ...]) -> TransformError:
    return TransformError(
        f"A random key cannot be drawn inside raw {transform}: every run of the function would "
        "get the same one.",
        {
            "asked": f"at {where(sites)}",
            "fix": _instead(transform, twin, why="gives every run keys of its own"),
        },
        transform=transform,
        sites=sites,
    )


def check_collect(running: Pass, key: str) -> None:
    """Raises TransformError where a value added to a collection could not get out."""
    bar = bars_assign(running.level, running.calls.crossing(running.level))
    if bar is not None:
        raise _bars_collect(key, f"raw {bar.name}", running.here())
    if not running.level.collects:
        raise _bars_collect(key, "a loop, branch or stack", running.here())


def _bars_collect(key: str, place: str, sites: tuple[Site, ...]) -> TransformError:
    return TransformError(
        f"Nothing can be added to the collection {key!r} inside {place}: the value could not "
        "get out of it.",
        {
            "asked": f"at {where(sites)}",
            "fix": "return the value and add it outside; jscope.jit, jscope.checkpoint, "
            "jscope.grad and jscope.value_and_grad take it out by themselves.",
        },
        key=key,
        transform=place,
        sites=sites,
    )


def check_put(running: Pass) -> None:
    """Raises TransformError where no state could get out."""
    bar = bars_assign(running.level, running.calls.crossing(running.level))
    if bar is not None and running.values.has_state:
        raise _bars_put(bar.name, running.here())


def _bars_put(transform: str, sites: tuple[Site, ...]) -> TransformError:
    return TransformError(
        f"A carry cannot be put back inside {transform}: its state could not get out.",
        {
            "asked": f"at {where(sites)}",
            "fix": "return the carry from the transformed function, and put what the transform "
            "returns.",
        },
        transform=transform,
        sites=sites,
    )


def check_assign(running: Pass, name: str) -> None:
    """Raises TransformError where a value assigned to ``name`` could not get out."""
    bar = bars_assign(running.level, running.calls.crossing(running.level))
    if bar is not None:
        if bar.name.startswith("jscope."):
            raise _bars_shared(name, bar.name, running.here())
        raise _bars_assign(name, bar.name, bar.twin, running.here())
    record = running.records.get(name)
    axes = len(record.sizes) if record is not None else 0
    level: Level | None = running.level
    while level is not None:
        if level.splits and axes < len(level.sizes):
            raise _bars_shared(name, "jscope.vmap(variables='split')", running.here())
        level = level.parent


def _bars_shared(name: str, place: str, sites: tuple[Site, ...]) -> TransformError:
    reason, fix = _SHARED[place]
    return TransformError(
        f"Variable {name} cannot be assigned inside {place}: {reason}.",
        {"asked": f"at {where(sites)}", "fix": fix},
        name=name,
        transform=place,
        sites=sites,
    )


def _bars_assign(
    name: str, transform: str, twin: str | None, sites: tuple[Site, ...]
) -> TransformError:
    return TransformError(
        f"Variable {name} cannot be assigned inside raw {transform}: the value could not get "
        "out of it.",
        {
            "asked": f"at {where(sites)}",
            "fix": _instead(transform, twin, why="carries state"),
        },
        name=name,
        transform=transform,
        sites=sites,
    )
