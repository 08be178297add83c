"""Where a model computes, and in which precision that hardware can."""

from __future__ import annotations

import torch

from fute.errors import SurrogateError


def find_device(name: str) -> torch.device:
    """The device that a study names; auto takes a GPU where there is one.

    Raises:
        SurrogateError: an unknown device, or one that this machine lacks.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as exc:
        raise SurrogateError(f"unknown device {name!r}; give auto, cpu, cuda, cuda:1 or mps") from exc
    if device.type not in ("cpu", "cuda", "mps"):
        raise SurrogateError(f"device {name!r} is not supported; give auto, cpu, cuda, cuda:1 or mps")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SurrogateError(
            f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices; give auto or cpu"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise SurrogateError("device 'mps' is not available on this machine; give auto or cpu")
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware computes in bfloat16, and does not only imitate it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return False


def require_bfloat16(device: torch.device) -> None:
    """That a forward pass on a device is one in bfloat16, computed or imitated, and not in silence another.

    Raises:
        SurrogateError: it is not.
    """
    try:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            one = torch.ones(1, 1, device=device)
            found: object = (one @ one).dtype
    except (RuntimeError, TypeError) as exc:
        found = exc
    if found != torch.bfloat16:
        raise SurrogateError(
            f"this machine's device {device} cannot compute in surrogate.dtype bfloat16 ({found}); set "
            "surrogate.dtype: float32, which makes another space, or use machines of one kind"
        )
