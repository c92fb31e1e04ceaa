"""The losses by name, with their sources. Importing this does not import torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LossInfo:
    """One loss of `upscale train --list-losses`.

    Attributes:
        name: as in recipes and on the command line.
        constraint: what it keeps the generator from, in a few words.
        summary: what it measures.
        source: the publication.
        weight: in the GAN stage, unless a recipe says otherwise.
    """

    name: str
    constraint: str
    summary: str
    source: str
    weight: float


_ALL = (
    LossInfo(
        "pixel",
        "local: stay near the true picture",
        "Charbonnier, L1, squared or PSNR distance of every pixel",
        "Charbonnier: Lai et al. 2017, LapSRN; PSNR: Chen et al. 2021, HINet",
        4.0,
    ),
    LossInfo(
        "adversarial",
        "look real: patches that a discriminator takes for true ones",
        "hinge or relativistic average GAN loss on a spectrally normalised patch discriminator",
        "Lim and Ye 2017; Jolicoeur-Martineau 2018; Miyato et al. 2018",
        0.001,
    ),
    LossInfo(
        "tangent",
        "tangent space: the generator's Jacobian keeps its rank",
        "squared distance of the Gram matrix of the downscaled generator's Jacobian from the identity",
        "cf. Odena et al. 2018, Jacobian clamping; estimator: Hutchinson 1990",
        0.01,
    ),
    LossInfo(
        "transport",
        "latent space: as much detail, and of the same kinds, as real pictures have",
        "sliced Wasserstein distance between real and generated high-pass patches",
        "Bonneel et al. 2015; Lei et al. 2019, A geometric view of optimal transportation and GAN",
        0.05,
    ),
    LossInfo(
        "perceptual",
        "look alike: the features of a network that learned to see",
        "LPIPS in RGB, the chroma being that of the input",
        "Zhang et al. 2018",
        1.0,
    ),
    LossInfo(
        "temporal",
        "time: what stands still stays still",
        "distance between the changes of output and original from one frame to the next",
        "cf. Chu et al. 2020, TecoGAN",
        9.0,
    ),
    LossInfo(
        "smooth",
        "no pattern of its own on smooth areas",
        "difference between enlarged random planes and bowls and the true ones, in code values",
        "cf. Odena et al. 2016, checkerboard artifacts",
        0.2,
    ),
    LossInfo(
        "distill",
        "follow a larger network",
        "distance from a teacher's output and attention maps; needs --teacher",
        "Hinton et al. 2015; Zagoruyko and Komodakis 2017",
        0.0,
    ),
)

LOSSES: dict[str, LossInfo] = {info.name: info for info in _ALL}
