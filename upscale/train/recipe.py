"""A run's settings as TOML, read and written: ``upscale train --recipe weights/gan.toml``."""

from __future__ import annotations

import json
import math
import tomllib
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from upscale.errors import UsageError
from upscale.train.config import (
    ADVERSARIAL_KINDS,
    DEGRADATIONS,
    HELD_OUT,
    ORIGINALS,
    PIXEL_KINDS,
    SIX,
    Stage,
    TrainConfig,
)
from upscale.train.losses import LOSSES

T = TypeVar("T", Stage, TrainConfig)

_TYPES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
#: What a number must be, beyond its type: (test, in words).
_POSITIVE: tuple[Callable[[float], bool], str] = (lambda v: v > 0, "more than 0")
_NOT_NEGATIVE: tuple[Callable[[float], bool], str] = (lambda v: v >= 0, "at least 0")
_SHARE: tuple[Callable[[float], bool], str] = (lambda v: 0 <= v <= 1, "between 0 and 1")
_BOUNDS: dict[str, tuple[Callable[[float], bool], str]] = {
    "unshuffle": (lambda v: v in (1, 2), "1 or 2"),
    "channels": (lambda v: 1 <= v <= 256, "from 1 to 256"),
    "body": (lambda v: 0 <= v <= 64, "from 0 to 64"),
    "expand": _POSITIVE,
    "seed": _NOT_NEGATIVE,
    "validate_every": _POSITIVE,
    "checkpoint_every": _POSITIVE,
    "threads": _NOT_NEGATIVE,
    "iterations": _POSITIVE,
    "batch": _POSITIVE,
    "patch": (lambda v: 16 <= v <= 96 and v % 4 == 0, "a multiple of 4 from 16 to 96"),
    "learning_rate": _POSITIVE,
    "discriminator_rate": _POSITIVE,
    "warm_up": _NOT_NEGATIVE,
    "levels": _SHARE,
    "native": _SHARE,
    "ema": _SHARE,
}
_CHOICES = {"pixel": PIXEL_KINDS, "adversarial": ADVERSARIAL_KINDS, "originals": ORIGINALS}


class _Mistake(Exception):
    """What is wrong with one entry, without the file's name."""


def read_recipe(path: Path) -> TrainConfig:
    """Read settings from a TOML file; what it leaves out has its default.

    Top-level keys are the fields of `TrainConfig`, each ``[[stage]]`` table holds those of `Stage`.

    Raises:
        UsageError: the file cannot be read, or an entry is unknown, of the wrong type or impossible.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise UsageError(f"the recipe cannot be read: {e.strerror or e}", path=str(path)) from e
    except ValueError as e:  # bad UTF-8 or bad TOML
        raise UsageError(f"the recipe is not TOML: {e}", path=str(path)) from e
    try:
        return from_mapping(data)
    except UsageError as e:
        raise UsageError(str(e), path=str(path)) from None


def from_mapping(data: Mapping[str, Any]) -> TrainConfig:
    """Settings from what a TOML file or a checkpoint holds; stages under ``stage`` or ``stages``.

    Raises:
        UsageError: an entry is unknown, of the wrong type or impossible.
    """
    try:
        top = {("stages" if key == "stage" else key): value for key, value in data.items()}
        stages = top.pop("stages", None)
        config = _fill(TrainConfig, top, "")
        if stages is not None:
            if not isinstance(stages, list | tuple) or not all(isinstance(s, Mapping) for s in stages):
                raise _Mistake("stage: must be tables, [[stage]]")
            config = replace(
                config, stages=tuple(_fill(Stage, s, _where(s, n)) for n, s in enumerate(stages, 1))
            )
        _check_stages(config)
    except _Mistake as e:
        raise UsageError(str(e)) from None
    return config


def override(config: TrainConfig, settings: Mapping[str, Any]) -> TrainConfig:
    """Change single settings.

    Args:
        settings: ``KEY`` of `TrainConfig` or, for every stage, of `Stage`; ``STAGE.KEY`` for one
            stage; ``losses.NAME`` or ``STAGE.losses.NAME`` for one weight. A weight without a stage
            changes the stages that use that loss.

    Raises:
        UsageError: an entry is unknown, of the wrong type or impossible.
    """
    top = {f.name for f in fields(TrainConfig)} - {"stages"}
    in_stage = {f.name for f in fields(Stage)} - {"name"}
    try:
        for key, value in settings.items():
            head, _, rest = key.partition(".")
            if key in top:
                config = replace(config, **{key: _checked(TrainConfig, key, value, "")})
                continue
            chosen = [s.name for s in config.stages] if head in in_stage else [head]
            name = key if head in in_stage else rest
            if head not in in_stage and head not in {s.name for s in config.stages}:
                known = ", ".join(s.name for s in config.stages)
                raise _Mistake(f"{key}: no such setting or stage; the stages are {known}")
            loss = name.partition(".")[2]
            if len(chosen) > 1 and loss in LOSSES:
                chosen = [s.name for s in config.stages if loss in s.losses]
                if not chosen:
                    raise _Mistake(f"{key}: no stage uses this loss; say which one, STAGE.{key}")
            config = replace(
                config,
                stages=tuple(_change(s, name, value) if s.name in chosen else s for s in config.stages),
            )
        _check_stages(config)
    except _Mistake as e:
        raise UsageError(str(e)) from None
    return config


def to_toml(config: TrainConfig) -> str:
    """The TOML text from which `read_recipe` makes the same settings; settings that are None are left out."""
    top = {f.name: getattr(config, f.name) for f in fields(config) if f.name != "stages"}
    lines = [f"{key} = {_toml(value)}" for key, value in top.items() if value is not None]
    for stage in config.stages:
        lines += ["", "[[stage]]"]
        settings = {f.name: getattr(stage, f.name) for f in fields(stage)}
        lines += [f"{key} = {_toml(value)}" for key, value in settings.items() if value is not None]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str():
            # JSON's escapes are among TOML's; TOML also wants DEL escaped.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case Mapping():
            return "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + " }"
    return "[" + ", ".join(_toml(v) for v in value) + "]"


def _where(stage: Mapping[str, Any], number: int) -> str:
    name = stage.get("name")
    return f"stage {name}: " if isinstance(name, str) else f"stage {number}: "


def _fill(kind: type[T], data: Mapping[str, Any], where: str) -> T:
    missing = [
        f.name
        for f in fields(kind)
        if f.default is MISSING and f.default_factory is MISSING and f.name not in data
    ]
    if missing:
        raise _Mistake(f"{where}{missing[0]} is missing")
    return kind(**{key: _checked(kind, key, value, where) for key, value in data.items()})


def _change(stage: Stage, key: str, value: Any) -> Stage:
    """`stage` with one setting or one weight of a loss changed."""
    head, _, loss = key.partition(".")
    where = f"stage {stage.name}: "
    if head != "losses" or not loss:
        return replace(stage, **{key: _checked(Stage, key, value, where)})
    return replace(stage, losses=_checked(Stage, "losses", stage.losses | {loss: value}, where))


def _checked(kind: type[Any], key: str, value: Any, where: str) -> Any:
    """`value` as the field `key` of `kind` takes it."""
    known = [f.name for f in fields(kind)]
    if key not in known:
        raise _Mistake(f"{where}{key}: no such setting; there are {', '.join(known)}")
    if key == "mix" and isinstance(value, list | tuple):  # as older recipes have it
        if len(value) != len(SIX):
            raise _Mistake(f"{where}mix: must be {len(SIX)} shares or a table, {{ name = share }}")
        value = dict(zip(SIX, value, strict=True))
    value = _typed(get_type_hints(kind)[key], value, f"{where}{key}")
    if key == "losses":
        _check_losses(value, where)
    if key in _CHOICES and value not in _CHOICES[key]:
        raise _Mistake(f"{where}{key}: {value!r} is none of {', '.join(_CHOICES[key])}")
    if key in _BOUNDS and value is not None and not _BOUNDS[key][0](value):
        raise _Mistake(f"{where}{key}: {value!r} must be {_BOUNDS[key][1]}")
    if key == "mix":
        _check_mix(value, where)
    if key == "held_out" and (not value or not set(value) <= set(HELD_OUT)):
        raise _Mistake(f"{where}held_out: must be some of {', '.join(HELD_OUT)}")
    return value


def _typed(kind: Any, value: Any, where: str) -> Any:
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else _typed(next(k for k in inside if k is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _Mistake(f"{where}: must be a list")
        return tuple(_typed(inside[0], v, where) for v in value)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _Mistake(f"{where}: must be a table, {{ name = number }}")
        return {str(k): _typed(inside[1], v, f"{where}.{k}") for k, v in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise _Mistake(f"{where}: {value!r} is not {_TYPES[kind]}")
    return value


def _check_losses(weights: Mapping[str, float], where: str) -> None:
    for name, weight in weights.items():
        if name not in LOSSES:
            raise _Mistake(f"{where}losses: unknown loss {name!r}; there are {', '.join(LOSSES)}")
        if weight < 0:
            raise _Mistake(f"{where}losses.{name}: {weight!r} must be at least 0")
    if not any(weights.values()):
        raise _Mistake(f"{where}losses: at least one weight must be more than 0")


def _check_mix(mix: Mapping[str, float], where: str) -> None:
    for name in mix:
        if name not in DEGRADATIONS:
            raise _Mistake(
                f"{where}mix: no degradation is called {name!r}; there are {', '.join(DEGRADATIONS)}"
            )
    if min(mix.values(), default=-1) < 0 or not math.isclose(sum(mix.values()), 1, abs_tol=1e-6):
        raise _Mistake(f"{where}mix: must be shares that sum to 1, not {list(mix.values())}")


def _check_stages(config: TrainConfig) -> None:
    names = [s.name for s in config.stages]
    if not names:
        raise _Mistake("stage: at least one is needed")
    for name in names:
        if not name or not name.replace("-", "").replace("_", "").isalnum():
            raise _Mistake(f"stage: {name!r} is no name; use letters, digits, - and _")
        if names.count(name) > 1:
            raise _Mistake(f"stage: two are called {name!r}")
