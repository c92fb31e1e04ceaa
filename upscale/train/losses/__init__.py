"""The losses of training by name: what each keeps the generator from, and where it was published.

One file per loss. Each is a function, or a module where it has a network of its own, that returns a scalar
of its inputs' device. To add one: its file here, its row in `LOSSES`, its line in
`upscale.train.step.StageTrainer._losses`, its test in ``tests/train/test_losses.py``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LossInfo:
    """One loss of `upscale train --list-losses`.

    Attributes:
        name: as in recipes and on the command line.
        weight: in the GAN stage, unless a recipe says otherwise.
        constraint: what it keeps the generator from, in a few words.
        source: the publication.
    """

    name: str
    weight: float
    constraint: str
    source: str


_ALL = (
    LossInfo(
        "pixel",
        4.0,
        "local: stay near the true picture",
        "Charbonnier: Lai et al. 2017, LapSRN; PSNR: Chen et al. 2021, HINet",
    ),
    LossInfo(
        "adversarial",
        0.001,
        "look real: patches that a discriminator takes for true ones",
        "Lim and Ye 2017; Jolicoeur-Martineau 2018; Miyato et al. 2018",
    ),
    LossInfo(
        "matching",
        0.0,
        "look real: what the discriminator sees in it is what it sees in the true picture",
        "Larsen et al. 2016; Wang et al. 2018, pix2pixHD",
    ),
    LossInfo(
        "tangent",
        0.01,
        "tangent space: the generator's Jacobian keeps its rank",
        "cf. Odena et al. 2018, Jacobian clamping; estimator: Hutchinson 1990",
    ),
    LossInfo(
        "transport",
        0.05,
        "latent space: as much detail, and of the same kinds, as real pictures have",
        "Bonneel et al. 2015; Lei et al. 2019, A geometric view of optimal transportation and GAN",
    ),
    LossInfo(
        "perceptual", 1.0, "look alike: the features of a network that learned to see", "Zhang et al. 2018"
    ),
    LossInfo("temporal", 9.0, "time: what stands still stays still", "cf. Chu et al. 2020, TecoGAN"),
    LossInfo(
        "smooth",
        0.2,
        "no pattern of its own on smooth areas",
        "cf. Odena et al. 2016, checkerboard artifacts",
    ),
    LossInfo("distill", 0.0, "follow a larger network", "Hinton et al. 2015; Zagoruyko and Komodakis 2017"),
)

LOSSES: dict[str, LossInfo] = {info.name: info for info in _ALL}
