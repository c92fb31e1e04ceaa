"""The PyTorch backend: float32 on the CPU, an NVIDIA or AMD GPU, or Apple's."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from upscale.backends.base import Closing, Luma
from upscale.backends.luma import Floats, to_codes, to_network
from upscale.backends.threads import plan_threads
from upscale.errors import BackendError, UpscaleError

if TYPE_CHECKING:
    import torch

    from upscale.model.weights import ModelFiles


class TorchBackend(Closing):
    """One module, shared by all calling threads. See `upscale.backends.base.Backend`.

    PyTorch's thread count and precision switch belong to the whole process; `close` puts them back.
    """

    name = "torch"
    scale = 2

    def __init__(self, model: ModelFiles, *, device: str | None = None, threads: int | None = None) -> None:
        """Load the safetensors file of `model`.

        Args:
            device: what PyTorch calls it: "cpu", "cuda", "cuda:1", "mps", …; None is the first of cuda,
                mps and cpu that is there.
            threads: processor threads in all; None is every core.

        Raises:
            BackendError: PyTorch or safetensors is not installed, or there is no such device.
            ModelError: the model has no safetensors file, or a damaged one.
        """
        try:
            import safetensors  # noqa: F401  what load_generator needs
            import torch
        except ImportError as e:
            raise BackendError("the torch backend needs PyTorch: pip install 'upscale[torch]'") from e
        from upscale.model.weights import load_generator

        self._torch = torch
        network = load_generator(model)
        self._device = self._find_device(device)
        network.to(self._device)
        # On the CPU channels-last convolutions are 1.1 to 1.9 times as fast.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network: torch.nn.Module | None = network
        self._multiple = network.config.unshuffle
        self._plan = plan_threads(threads)
        self.workers = self._plan.workers
        self._threads_before = torch.get_num_threads()
        self._tf32_before = torch.backends.cudnn.allow_tf32
        # TensorFloat-32 keeps 10 bits of a product: too few for 10-bit video.
        torch.backends.cudnn.allow_tf32 = False
        self._prepared = threading.local()
        self.description = f"PyTorch {torch.__version__} {self._device}, {self._plan}"

    def __call__(self, luma: Luma, max_value: int = 255, out: Luma | None = None) -> Luma:
        floats = to_network(luma, max_value, self._multiple)
        try:
            output = self._run(floats)
        except UpscaleError:
            raise
        except RuntimeError as e:  # out of memory, too
            raise BackendError(f"PyTorch failed: {str(e).strip().splitlines()[0][:200]}") from e
        return to_codes(output, luma, max_value, self.scale, out)

    def close(self) -> None:
        if self._network is not None:
            self._network = None
            self._torch.set_num_threads(self._threads_before)
            self._torch.backends.cudnn.allow_tf32 = self._tf32_before

    def _run(self, floats: Floats) -> Floats:
        """(H, W) → (2H, 2W), both float32 in 0…1."""
        network, torch = self._network, self._torch
        if network is None:
            raise BackendError("the backend is closed")
        if not hasattr(self._prepared, "done"):
            # Each thread keeps a count of its own for OpenMP.
            torch.set_num_threads(self._plan.per_call)
            self._prepared.done = True
        with torch.inference_mode():
            picture = torch.from_numpy(floats)[None, None].to(self._device)
            output: Floats = network(picture)[0, 0].cpu().numpy()
        return output

    def _find_device(self, name: str | None) -> torch.device:
        torch = self._torch
        if name is None:
            if torch.cuda.is_available():
                name = "cuda"
            else:
                name = "mps" if torch.backends.mps.is_available() else "cpu"
        try:
            device = torch.device(name)
            torch.zeros(1, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as e:
            raise BackendError(f"PyTorch has no device {name!r} here") from e
        return device


def load(model: ModelFiles, *, device: str | None = None, threads: int | None = None) -> TorchBackend:
    """Open the safetensors file of `model`; see `TorchBackend`."""
    return TorchBackend(model, device=device, threads=threads)
