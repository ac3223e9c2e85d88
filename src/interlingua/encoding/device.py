"""Choice of device and number format, for the whole package."""

from typing import Literal, overload

import torch


def best_device() -> Literal["cuda", "cpu"]:
    """The GPU if there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def best_compute(device: str = "cpu") -> Literal["float32", "bfloat16"]:
    """bfloat16 where the device multiplies it natively, else float32."""
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if native else "float32"


Computed = Literal["float32", "bfloat16", "int8"]  # similarities, which know one more format than encoders


@overload
def resolve_device(device: str = ..., compute: Literal["auto"] | Computed = ...) -> tuple[str, Computed]: ...
@overload
def resolve_device(device: str, compute: str) -> tuple[str, str]: ...
def resolve_device(device: str = "auto", compute: str = "auto") -> tuple[str, str]:
    """Device and number format, with ``auto`` replaced by the best available."""
    where = best_device() if device == "auto" else device
    return where, best_compute(where) if compute == "auto" else compute
