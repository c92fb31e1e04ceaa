"""What discriminator and generator want of the discriminator's logits."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from upscale.errors import TrainError

KINDS = ("hinge", "relativistic")


def discriminator_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss: true pictures get high logits, generated ones low.

    Args:
        kind: "hinge", which leaves alone what is beyond a margin of 1 (Lim and Ye 2017, Geometric GAN), or
            "relativistic": true ones look more real than generated ones do on average, and the other
            way round (relativistic average GAN, Jolicoeur-Martineau 2018).
        real, fake: logits of any equal shape, of true pictures and of generated ones that are detached.

    Raises:
        TrainError: unknown kind.
    """
    if _known(kind) == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return (F.softplus(fake.mean() - real).mean() + F.softplus(fake - real.mean()).mean()) / 2


def generator_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """The generator's loss on the same logits; `real` only counts for "relativistic", as a constant.

    Raises:
        TrainError: unknown kind.
    """
    if _known(kind) == "hinge":
        return -fake.mean()
    real = real.detach()
    return (F.softplus(real - fake.mean()).mean() + F.softplus(real.mean() - fake).mean()) / 2


def _known(kind: str) -> str:
    if kind not in KINDS:
        raise TrainError(f"unknown adversarial loss {kind!r}: one of {', '.join(KINDS)}")
    return kind
