"""Where state may be assigned and keys drawn: not where a transform would repeat or lose them."""

from __future__ import annotations

from jscope._calls import Crossing
from jscope._jaxapi import Transform
from jscope._level import Level
from jscope._pass import Pass
from jscope.errors import TransformError


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
        raise TransformError.draw(bar.name, bar.twin, running.here())
    running.level.enter_branches(crossing.branches)


def check_collect(running: Pass, key: str) -> None:
    """Raises TransformError where a value added to a collection could not get out."""
    bar = bars_assign(running.level, running.calls.crossing(running.level))
    if bar is not None:
        raise TransformError.collect(key, f"raw {bar.name}", running.here())
    if not running.level.collects:
        raise TransformError.collect(key, "a loop, branch or stack", running.here())


def check_put(running: Pass) -> None:
    """Raises TransformError where no state could get out."""
    bar = bars_assign(running.level, running.calls.crossing(running.level))
    if bar is not None and running.values.has_state:
        raise TransformError.put(bar.name, running.here())


def check_assign(running: Pass, name: str) -> None:
    """Raises TransformError where a value assigned to ``name`` could not get out."""
    bar = bars_assign(running.level, running.calls.crossing(running.level))
    if bar is not None:
        if bar.name.startswith("jscope."):
            raise TransformError.assign_shared(name, bar.name, running.here())
        raise TransformError.assign(name, bar.name, bar.twin, running.here())
    record = running.records.get(name)
    axes = len(record.sizes) if record is not None else 0
    level: Level | None = running.level
    while level is not None:
        if level.splits and axes < len(level.sizes):
            raise TransformError.assign_shared(
                name, "jscope.vmap(variables='split')", running.here()
            )
        level = level.parent
