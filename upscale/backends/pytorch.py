"""The PyTorch backend: the CPU (in bf16 where it has that), an NVIDIA or AMD GPU, or Apple's."""

from __future__ import annotations

import platform
import threading
from typing import TYPE_CHECKING, Any

from upscale.backends.base import Floats, Luma, to_codes, to_network
from upscale.errors import BackendError, ModelError, UpscaleError, first_line
from upscale.model.blend import blend_safetensors, blended
from upscale.system.closing import Closing
from upscale.system.cores import plan_threads

if TYPE_CHECKING:
    import torch

    from upscale.model.generator import Generator
    from upscale.model.weights import ModelFiles


class TorchBackend(Closing):
    """One module, shared by all calling threads. See `upscale.backends.base.Backend`.

    In bf16 and fp16 the convolutions compute so, and what they add to the picture is added in float32.
    PyTorch's thread count and precision switch belong to the whole process; `close` puts them back.
    """

    name = "torch"
    scale = 2

    def __init__(
        self,
        model: ModelFiles,
        *,
        precision: str = "fp32",
        device: str | None = None,
        threads: int | None = None,
    ) -> None:
        """Load the safetensors file of `model`.

        Args:
            precision: "fp32", "bf16" (processors with AVX512-BF16, AMX or ARM's bf16) or "fp16" (GPUs).
            device: what PyTorch calls it: "cpu", "cuda", "cuda:1", "mps", …; None is the first of cuda,
                mps and cpu that is there.
            threads: processor threads in all; None is every core.

        Raises:
            BackendError: PyTorch or safetensors is not installed, there is no such device, it has no
                such precision, or that changes the picture by more than `upscale.backends.trial` allows.
            ModelError: the model has no safetensors file, or a damaged one.
        """
        try:
            import safetensors  # noqa: F401  what load_generator needs
            import torch
        except ImportError as e:
            raise BackendError("the torch backend needs PyTorch: pip install '.[torch]'") from e
        self._torch = torch
        network = load_generator(model)
        self._device = self._find_device(device)
        self._dtype = self._find_dtype(precision)
        self.precision = precision
        network.to(self._device)
        # On the CPU channels-last convolutions are 1.1 to 1.9 times as fast.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network: Generator | None = network
        self._multiple = network.config.multiple
        self._plan = plan_threads(threads)
        self.workers = self._plan.workers
        self._threads_before = torch.get_num_threads()
        self._tf32_before = torch.backends.cudnn.allow_tf32
        # TensorFloat-32 keeps 10 bits of a product: too few for 10-bit video.
        torch.backends.cudnn.allow_tf32 = False
        self._prepared = threading.local()
        if self._dtype != torch.float32:
            self._lower(network)
        self.description = f"PyTorch {torch.__version__} {self._device} {precision}, {self._plan}"

    def __call__(self, luma: Luma, max_value: int = 255, out: Luma | None = None) -> Luma:
        floats = to_network(luma, max_value, self._multiple)
        try:
            output = self._run(floats)
        except UpscaleError:
            raise
        except RuntimeError as e:  # out of memory, too
            raise BackendError(f"PyTorch failed: {first_line(e)}") from e
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
            if self._dtype != torch.float32:
                picture = network.lowered(picture, self._dtype)
            else:
                picture = network(picture)
            output: Floats = picture[0, 0].cpu().numpy()
        return output

    def _lower(self, network: Generator) -> None:
        """Let the convolutions compute in the lower precision, once that is known to be near enough."""
        from upscale.backends.trial import RULES, probe

        picture, dtype = probe(), self._dtype
        self._dtype = self._torch.float32
        expected = self(picture)
        self._dtype = dtype
        network.convs.to(self._dtype)
        why = RULES[self.precision].broken(expected, self(picture), 255)
        if why is not None:
            self.close()
            raise BackendError(f"{self.precision} on {self._device} {why} from fp32, too much")

    def _find_dtype(self, precision: str) -> torch.dtype:
        torch = self._torch
        kind = self._device.type
        if precision == "fp32":
            return torch.float32
        if precision == "bf16" and kind == "cpu" and cpu_has_bf16(torch):
            return torch.bfloat16
        if precision == "fp16" and kind in ("cuda", "mps"):
            return torch.float16
        raise BackendError(f"the torch backend has no {precision} on this {kind}")

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


def cpu_has_bf16(torch: Any) -> bool:
    """Whether the processor multiplies bf16 itself: elsewhere it is emulated, and slower than float32."""
    try:
        if platform.machine().lower() in ("x86_64", "amd64"):
            return bool(torch.cpu._is_avx512_bf16_supported())
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False


def load(model: ModelFiles, precision: str, device: str | None, threads: int | None) -> TorchBackend:
    """Open the safetensors file of `model`: see `upscale.backends.load`."""
    return TorchBackend(model, precision=precision, device=device, threads=threads)


def load_generator(files: ModelFiles) -> Generator:
    """The folded network in eval mode, on the CPU, float32; blended if `files` has a partner.

    Raises:
        UsageError: the partner is another network.
        ModelError: no safetensors file, damaged, of another shape, or not finite.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    from upscale.model.generator import Generator

    path = files.safetensors
    if path is None or files.config is None:
        raise ModelError("the torch backend needs a .safetensors file", path=files.name)
    content = blended(files, "safetensors", blend_safetensors)
    try:
        tensors = load(path.read_bytes() if content is None else content)
    except (SafetensorError, OSError) as e:
        raise ModelError(f"damaged weights file: {e}", path=str(path)) from e
    network = Generator(files.config)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as e:
        raise ModelError("the weights do not fit the configuration in the header", path=str(path)) from e
    if not all(torch.isfinite(t).all() for t in tensors.values()):
        raise ModelError("the weights are not all finite numbers", path=str(path))
    return network.eval()
