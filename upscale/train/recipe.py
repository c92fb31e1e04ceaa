"""A run's settings as TOML, read and written: ``upscale train --recipe weights/gan.toml``."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from upscale.errors import UsageError
from upscale.train.config import DEGRADATIONS, SIX, Stage, TrainConfig
from upscale.train.losses import LOSSES

T = TypeVar("T", Stage, TrainConfig)

#: What TOML's manual calls msgspec's types, roughly.
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table, { name = number }",
}


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
    for f in fields(kind):
        if f.default is MISSING and f.default_factory is MISSING and f.name not in data:
            raise _Mistake(f"{where}{f.name} is missing")
    return kind(**{key: _checked(kind, key, value, where) for key, value in data.items()})


def _change(stage: Stage, key: str, value: Any) -> Stage:
    """`stage` with one setting or one weight of a loss changed."""
    head, _, loss = key.partition(".")
    if head == "losses" and loss:
        key, value = head, stage.losses | {loss: value}
    return replace(stage, **{key: _checked(Stage, key, value, f"stage {stage.name}: ")})


def _checked(kind: type[Any], key: str, value: Any, where: str) -> Any:
    """`value` as the field `key` of `kind` takes it."""
    types = get_type_hints(kind, include_extras=True)
    if key not in types:
        raise _Mistake(f"{where}{key}: no such setting; there are {', '.join(types)}")
    if key == "mix" and isinstance(value, list | tuple):  # as older recipes have it
        if len(value) != len(SIX):
            raise _Mistake(f"{where}mix: must be {len(SIX)} shares or a table, {{ name = share }}")
        value = dict(zip(SIX, value, strict=True))
    value = _typed(types[key], value, f"{where}{key}")
    if key == "losses":
        _check_names(value, LOSSES, f"{where}losses: unknown loss")
        if not any(value.values()):
            raise _Mistake(f"{where}losses: at least one weight must be more than 0")
    if key == "mix":
        _check_names(value, DEGRADATIONS, f"{where}mix: unknown degradation")
        if not math.isclose(sum(value.values()), 1, abs_tol=1e-6):
            raise _Mistake(f"{where}mix: must be shares that sum to 1, not {list(value.values())}")
    return value


def _typed(kind: Any, value: Any, where: str) -> Any:
    if get_origin(kind) is dict and isinstance(value, Mapping):  # msgspec would not name the key
        return {str(k): _typed(get_args(kind)[1], v, f"{where}.{k}") for k, v in value.items()}
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as e:
        reason, _, path = str(e).partition(" - at `$")
    if reason.startswith("Invalid enum"):
        choices = re.findall(r"Literal\[(.*?)\]", str(kind))[0].replace("'", "")
        raise _Mistake(f"{where}: must be one of {choices}, not {value!r}")
    wanted = re.sub(r"`(\w+)[^`]*`", lambda found: _WORDS[found[1]], reason.partition(", got")[0])
    raise _Mistake(f"{where}{path.rstrip('`')}: {wanted.replace('Expected', 'must be')}, not {value!r}")


def _check_names(given: Mapping[str, float], known: Mapping[str, Any], complaint: str) -> None:
    for name in given:
        if name not in known:
            raise _Mistake(f"{complaint} {name!r}; there are {', '.join(known)}")


def _check_stages(config: TrainConfig) -> None:
    names = [s.name for s in config.stages]
    if not names:
        raise _Mistake("stage: at least one is needed")
    for name in names:
        if not name or not name.replace("-", "").replace("_", "").isalnum():
            raise _Mistake(f"stage: {name!r} is no name; use letters, digits, - and _")
        if names.count(name) > 1:
            raise _Mistake(f"stage: two are called {name!r}")
