"""Where state may be assigned and keys drawn: not where a transform would repeat or lose them."""

from __future__ import annotations

from jscope._calls import Crossing
from jscope._jaxapi import NAMED_CALL, Transform
from jscope._level import Bar, Level, Outlet, Seer
from jscope._pass import Pass
from jscope._report import report_at
from jscope.errors import Site, TransformError

TWINS: set[str] = set()
"""Names of the functions of jscope that take the place of one of JAX; their room enters them."""


def bars_draw(level: Level, crossing: Crossing) -> Transform | None:
    """The transform that would repeat a key drawn here, if any."""
    if level.bars.draw is not None:
        return level.bars.draw
    return next((transform for transform in crossing.transforms if not transform.once), None)


def bars_assign(level: Level, crossing: Crossing) -> Transform | Bar | None:
    """What would keep a value assigned here from getting out, if anything."""
    if level.bars.assign is not None:
        return level.bars.assign
    return next(iter(crossing.transforms), None)


def _around(running: Pass) -> Transform | Bar | None:
    return bars_assign(running.level, running.calls.crossing(running.level))


def check_draw(running: Pass) -> None:
    """Raises TransformError where a draw would repeat; to be called before each draw."""
    crossing = running.calls.crossing(running.level)
    bar = bars_draw(running.level, crossing)
    if bar is not None:
        raise _cannot_draw(bar, running.here())
    running.level.keys.enter_branches(crossing.branches)


def _cannot_draw(bar: Transform, sites: tuple[Site, ...]) -> TransformError:
    return report_at(
        TransformError,
        f"A random key cannot be drawn inside raw {bar.name}: every run of the function would "
        "get the same one.",
        sites,
        _instead(bar, why="gives every run keys of its own"),
        transform=bar.name,
    )


def check_collect(running: Pass, key: str) -> None:
    """Raises TransformError where a value added to a collection could not get out."""
    bar = _around(running)
    if bar is not None:
        raise _cannot_collect(key, _place(bar), running.here())
    if running.level.bars.collect:
        raise _cannot_collect(key, "a loop, branch or stack", running.here())


def _cannot_collect(key: str, place: str, sites: tuple[Site, ...]) -> TransformError:
    return report_at(
        TransformError,
        f"Nothing can be added to the collection {key!r} inside {place}: the value could not "
        "get out of it.",
        sites,
        "return the value and add it outside; jscope.jit, jscope.checkpoint, "
        "jscope.grad and jscope.value_and_grad take it out by themselves.",
        key=key,
        transform=place,
    )


def outlets(
    level: Level, crossing: Crossing, *, closed: str | None = None, in_pass: bool = True
) -> dict[Seer, Outlet]:
    """Who looks at what is recorded behind a crossing, and how it gets there.

    Args:
      level: That the crossing starts from.
      crossing: What lies between.
      closed: The name of a function of jscope's that lies there too and lets nothing out.
      in_pass: Whether the level is one of a pass.
    """
    if not level.seers:
        return {}
    raw = next((raw for raw in crossing.transforms if raw != NAMED_CALL), None)
    bar = None
    if raw is not None:
        bar = Bar(f"raw {raw.name}", _STAYS, _way_out(raw.name, in_pass=in_pass))
    elif closed is not None:
        bar = Bar(closed, _STAYS, _RETURN)
    return {seer: found._replace(bar=found.bar or bar) for seer, found in level.seers.items()}


_STAYS = "no value could get out of it"
_RETURN = "return the value and record it outside."
_OPEN = {"jit", "checkpoint", "grad", "value_and_grad", "scan", "map", "vmap"}


def _way_out(transform: str, *, in_pass: bool) -> str:
    twin = transform.rpartition(".")[2]
    if twin not in _OPEN:
        return _RETURN
    if in_pass:
        return f"use jscope.{twin}, which takes the same arguments and lets values out."
    more = ", has_aux=True" if "grad" in twin else ""
    f = "loss" if more else "net.apply"
    return f"transform what capture or plant gives, as {transform}(jscope.capture({f}){more})."


def check_put(running: Pass) -> None:
    """Raises TransformError where no state could get out."""
    bar = _around(running)
    if bar is not None and running.values.has_state:
        raise _cannot_put(bar.name, running.here())


def _cannot_put(transform: str, sites: tuple[Site, ...]) -> TransformError:
    return report_at(
        TransformError,
        f"A carry cannot be put back inside {transform}: its state could not get out.",
        sites,
        "return the carry from the transformed function, and put what the transform returns.",
        transform=transform,
    )


def check_assign(running: Pass, name: str) -> None:
    """Raises TransformError where a value assigned to ``name`` could not get out."""
    bar = _around(running)
    record = running.records.get(name)
    axes = len(record.sizes) if record is not None else 0
    level: Level | None = running.level
    while level is not None and bar is None:
        if axes < len(level.sizes):
            bar = level.bars.outside
        level = level.parent
    if bar is not None:
        raise _cannot_assign(name, bar, running.here())


def _cannot_assign(name: str, bar: Transform | Bar, sites: tuple[Site, ...]) -> TransformError:
    if isinstance(bar, Bar):
        reason, fix = bar.reason, bar.fix
    else:
        reason = "the value could not get out of it"
        fix = _instead(bar, why="carries state")
    return report_at(
        TransformError,
        f"Variable {name} cannot be assigned inside {_place(bar)}: {reason}.",
        sites,
        fix,
        name=name,
        transform=bar.name,
    )


def _place(bar: Transform | Bar) -> str:
    return bar.name if isinstance(bar, Bar) else f"raw {bar.name}"


def _instead(bar: Transform, *, why: str) -> str:
    if bar == NAMED_CALL:
        return "open `with jax.named_scope(name):` instead, which is no function of its own."
    twin = bar.name.rpartition(".")[2]
    if twin == "vmap" and "state" in why:
        return (
            "use jscope.vmap(variables='split'), where each instance has variables of its own, or "
            "return the values and assign one outside."
        )
    if twin in TWINS and not (twin == "shard_map" and "state" in why):
        return f"use jscope.{twin}, which takes the same arguments and {why}."
    return (
        "wrap the function, pure, carry = jscope.functionalize(fn), pass the carry through the "
        "transform, and write it back, jscope.put_carry(carry)."
    )
