"""Recipes: TOML to settings and back, and one clear line for each mistake.

Covers upscale/train/{recipe,config}.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from upscale.errors import UsageError
from upscale.train.config import DEGRADATIONS, SIX, Stage, TrainConfig
from upscale.train.recipe import from_mapping, override, read_recipe, to_toml

RECIPE = """
channels = 16
seed = 7
bf16 = false

[[stage]]
name = "near"
iterations = 100
learning_rate = 1
mix = [1, 0, 0, 0, 0, 0]

[[stage]]
name = "look"
iterations = 50
adversarial = "hinge"
losses = { pixel = 1.0, adversarial = 0.05, tangent = 1 }
"""

A = '[[stage]]\nname = "a"\niterations = 5\n'


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "r.toml"
    path.write_text(text)
    return path


def test_reads_what_is_there_and_defaults_the_rest(tmp_path: Path) -> None:
    config = read_recipe(_write(tmp_path, RECIPE))
    assert (config.channels, config.seed, config.bf16, config.body) == (16, 7, False, TrainConfig().body)
    near, look = config.stages
    six = dict.fromkeys(SIX, 0.0) | {"bicubic": 1.0}
    assert near == Stage(name="near", iterations=100, learning_rate=1.0, mix=six)
    assert isinstance(near.learning_rate, float)
    assert look.losses == {"pixel": 1.0, "adversarial": 0.05, "tangent": 1.0}


def test_an_empty_recipe_is_the_default(tmp_path: Path) -> None:
    assert read_recipe(_write(tmp_path, "")) == TrainConfig()


@pytest.mark.parametrize("config", [TrainConfig(), TrainConfig(bf16=True, channels=8)])
def test_written_recipes_read_back(tmp_path: Path, config: TrainConfig) -> None:
    config = replace(config, stages=(*config.stages, Stage(name="x", iterations=1, ema=1 / 3)))
    assert read_recipe(_write(tmp_path, to_toml(config))) == config


def test_shipped_recipes_are_valid() -> None:
    for path in (Path(__file__).parents[2] / "weights").rglob("*.toml"):
        assert read_recipe(path).stages


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("chanels = 16", "chanels: no such setting"),
        ('channels = "wide"', "channels: must be a whole number, not 'wide'"),
        ("channels = 16.5", "channels: must be a whole number, not 16.5"),
        ("channels = true", "channels: must be a whole number, not True"),
        ("channels = 0", "channels: must be a whole number >= 1, not 0"),
        ("bf16 = 1", "bf16: must be true or false, not 1"),
        ("channels = [", "not TOML"),
        ("stage = 3", "must be tables"),
        ("stage = []", "at least one"),
        ("[[stage]]\niterations = 5", "stage 1: name is missing"),
        ('[[stage]]\nname = "a"', "stage a: iterations is missing"),
        (A + 'learning_rate = nan', "stage a: learning_rate: must be a number > 0.0, not nan"),
        (A + 'pixel = "l3"', "stage a: pixel: must be one of charbonnier, l1, mse, psnr, not 'l3'"),
        (A + 'patch = 30', "patch: must be a whole number that's a multiple of 4, not 30"),
        (A + 'losses = { gan = 1 }', "unknown loss 'gan'"),
        (A + 'losses = { pixel = -1 }', "stage a: losses.pixel: must be a number >= 0.0, not -1"),
        (A + 'losses = { pixel = 0 }', "at least one weight"),
        (A + 'losses = { pixel = "1" }', "losses.pixel: must be a number, not '1'"),
        (A + 'mix = [0.5, 0.1, 0, 0, 0, 0]', "stage a: mix: must be shares that sum to 1"),
        (A + 'mix = [0.5, 0.5]', "stage a: mix: must be 6 shares or a table"),
        (A + 'mix = 1', "stage a: mix: must be a table, { name = number }, not 1"),
        (A + 'mix = {}', "stage a: mix: must be shares that sum to 1"),
        (A + 'mix = { divx = 1.5, vp8 = -0.5 }', "stage a: mix.divx: must be a number <= 1.0, not 1.5"),
        (A + 'mix = { realvideo = 1 }', "stage a: mix: unknown degradation 'realvideo'; there are bic"),
        ('originals = "old"', "originals: must be one of degraded, crisp, not 'old'"),
        ('held_out = ["crf99"]', "held_out: must be one of clean, crf23, crf28, crf33, crf36, divx, not"),
        ('held_out = []', "held_out: must be a list of length >= 1, not []"),
        ('[[stage]]\nname = "a/b"\niterations = 5', "'a/b' is no name"),
        (A + A, "two are called 'a'"),
    ],
)  # fmt: skip
def test_mistakes_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        read_recipe(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.path == str(path)


def test_a_mix_by_name(tmp_path: Path) -> None:
    """What no stage draws need not be made."""
    text = A + "mix = { divx = 0.75, bicubic = 0.25, vp8 = 0 }\n" + A.replace('"a"', '"b"')
    config = read_recipe(_write(tmp_path, text + "mix = [1, 0, 0, 0, 0, 0]"))
    assert config.stages[0].mix == {"divx": 0.75, "bicubic": 0.25, "vp8": 0}
    assert config.versions == ("bicubic", "divx")
    assert set(SIX) < set(DEGRADATIONS)
    assert TrainConfig().versions == SIX


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_recipe(tmp_path / "none.toml")


def test_overrides_reach_every_stage_or_one(tmp_path: Path) -> None:
    config = read_recipe(_write(tmp_path, RECIPE))
    changed = override(
        config,
        {"channels": 8, "batch": 4, "look.iterations": 9, "look.losses.transport": 0.5, "losses.pixel": 2},
    )
    assert changed.channels == 8
    assert [s.batch for s in changed.stages] == [4, 4]
    assert [s.iterations for s in changed.stages] == [100, 9]
    assert changed.stages[0].losses == {"pixel": 2.0}
    assert changed.stages[1].losses == {
        "pixel": 2.0, "adversarial": 0.05, "tangent": 1.0, "transport": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("wide.iterations", 5, "no such setting or stage; the stages are near, look"),
        ("look.iteration", 5, "stage look: iteration: no such setting"),
        ("batch", 0, "batch: must be a whole number >= 1, not 0"),
        ("losses.perceptual", 1.0, "no stage uses this loss"),
        ("look.losses.style", 1.0, "unknown loss 'style'"),
    ],
)
def test_wrong_overrides_are_named(tmp_path: Path, key: str, value: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        override(read_recipe(_write(tmp_path, RECIPE)), {key: value})


def test_settings_of_a_checkpoint_read_back() -> None:
    """A checkpoint keeps its settings as JSON, where tuples are lists."""
    import json
    from dataclasses import asdict

    config = TrainConfig(channels=24)
    assert from_mapping(json.loads(json.dumps(asdict(config)))) == config
