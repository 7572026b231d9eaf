"""A torch module, seen as the tensors of a safetensors file.

Trainable parameters and floating buffers travel; frozen parameters and integer buffers stay as in the
round's model.  Tied weights are one tensor under two names: the file holds it once, under the name that sorts
first (as `safetensors.torch.save_model` does), so that it is sent once and the two never drift apart.
`safetensors.torch.load_model` reads such a file; so does `load_state_dict(..., strict=False)`.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from unisono.base.errors import BadConfiguration
from unisono.tensors import DTYPES, Bytes, Entry

NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class TorchModel:
    """One module for the whole life of the process; models are stored into it in place."""

    def __init__(self, made: nn.Module, device: str) -> None:
        self.made = made.to(device)
        self._tensors = _state(made)
        self._staged: dict[str, Tensor] = {}
        # Buffers outside the state would be the only trace of earlier rounds: see `seeding`.
        self._hidden = {n: b.detach().clone() for n, b in made.named_buffers() if n not in self._tensors}

    def entries(self) -> tuple[Entry, ...]:
        self._tensors = _state(self.made)
        found = []
        for names in tied(self._tensors):
            first = self._tensors[names[0]]
            dtype = NAMES.get(first.dtype)
            if dtype is None:
                raise BadConfiguration(f'tensor "{names[0]}" is {first.dtype}; known are {", ".join(DTYPES)}')
            travels = DTYPES[dtype].floating and any(_learns(self._tensors[name]) for name in names)
            found.append(Entry(names[0], tuple(first.shape), dtype, travels))
        return tuple(found)

    def tensor(self, name: str) -> Tensor:
        return self._tensors[name]

    def raw(self, name: str, begin: int, end: int) -> Bytes:
        return to_bytes(self._tensors[name].detach().reshape(-1)[begin:end])

    def store(self, name: str, begin: int, raw: Bytes) -> None:
        if not raw:
            return
        tensor = self._tensors[name].detach()
        new = torch.frombuffer(bytearray(raw), dtype=tensor.dtype)
        if tensor.is_contiguous():
            tensor.view(-1)[begin : begin + new.numel()].copy_(new)
            return
        staged = self._staged.setdefault(name, torch.empty(tensor.numel(), dtype=tensor.dtype))
        staged[begin : begin + new.numel()] = new
        if begin + new.numel() == tensor.numel():
            tensor.copy_(self._staged.pop(name).view(tensor.shape))

    def reset(self) -> None:
        self._staged.clear()
        self.made.zero_grad(set_to_none=True)
        buffers = dict(self.made.named_buffers())
        for name, value in self._hidden.items():
            buffers[name].detach().copy_(value)


def tied(tensors: dict[str, Tensor]) -> list[list[str]]:
    """Return the names of each different tensor, sorted.  Raises BadConfiguration for a partial overlap."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for name in sorted(tensors):
        t = tensors[name]
        place = (t.data_ptr(), t.device, t.dtype, t.shape, t.stride()) if t.numel() else (name,)
        groups.setdefault(place, []).append(name)
    names = list(groups.values())
    spans = sorted((*_span(tensors[group[0]]), group[0]) for group in names if tensors[group[0]].numel())
    for (_, end, one), (begin, _, other) in pairwise(spans):
        if begin < end:
            raise BadConfiguration(f'tensors "{one}" and "{other}" share a part of their memory; clone one')
    return names


def to_bytes(flat: Tensor) -> bytes:
    """Return a flat tensor's elements as little-endian bytes; NumPy has no bfloat16, so by its bits."""
    here = flat.cpu().contiguous()
    if here.dtype is torch.bfloat16:
        here = here.view(torch.int16)
    return here.numpy().tobytes()


def _span(tensor: Tensor) -> tuple[int, int]:
    extent = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)) + 1
    begin = tensor.data_ptr()
    return begin, begin + extent * tensor.element_size()


def _state(module: nn.Module) -> dict[str, Tensor]:
    state = module.state_dict(keep_vars=True)
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise BadConfiguration(f'the model keeps "{name}" in its state_dict, which is no tensor')
    return dict(state)


def _learns(tensor: Tensor) -> bool:
    return tensor.requires_grad if isinstance(tensor, nn.Parameter) else True
