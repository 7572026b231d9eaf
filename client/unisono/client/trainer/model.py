"""What the trainer needs of a model, whatever it is made of."""

from typing import Any, Protocol

from unisono.base.errors import BadConfiguration
from unisono.tensors import Bytes, Entry

STEP = 1 << 18  # elements moved at once, at most


class Held(Protocol):
    """A model in memory, seen as the tensors of its safetensors file."""

    @property
    def made(self) -> Any:
        """What the task's `model()` returned."""
        ...

    def entries(self) -> tuple[Entry, ...]:
        """Return its tensors as they are now.  Raises BadConfiguration for what no file can hold."""
        ...

    def raw(self, name: str, begin: int, end: int) -> Bytes:
        """Return elements begin..end of a tensor, flattened, as little-endian bytes."""
        ...

    def store(self, name: str, begin: int, raw: Bytes) -> None:
        """Overwrite elements from `begin` on; a tensor is stored from its first element to its last."""
        ...

    def reset(self) -> None:
        """Forget what is kept beside the tensors, before a model is stored."""
        ...


def hold(made: Any, device: str) -> Held:
    """Return the view of what a task's `model()` returned.  Only a module brings torch in."""
    if isinstance(made, dict):
        from .array_model import ArrayModel  # noqa: PLC0415

        return ArrayModel(made)
    if hasattr(made, "state_dict"):
        from .torch_model import TorchModel  # noqa: PLC0415

        return TorchModel(made, device)
    raise BadConfiguration(
        f"model() returned {type(made).__name__}; return a torch.nn.Module or a dict of NumPy arrays"
    )
