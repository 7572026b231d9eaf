"""The class that users derive from."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from .context import Context, Counts, Site

if TYPE_CHECKING:
    from pydantic import BaseModel


class Task:
    """A model, a site's data and how one learns from the other, in ordinary PyTorch.

    A complete task::

        import torch
        from torch import nn
        from torch.utils.data import TensorDataset
        from unisono.client import Task

        class Readmission(Task):
            def model(self):
                return nn.Linear(12, 1)

            def train_data(self):
                x, y = torch.load(self.site.data / "train.pt")
                return TensorDataset(x, y)

            def loss(self, model, batch):
                x, y = batch
                return nn.functional.binary_cross_entropy_with_logits(model(x).squeeze(1), y)

    Instead of a module, `model` may return a dict of NumPy arrays; then `train` and `evaluate` are overridden
    and no torch is imported.  Models, batches and optimisers are the user's own objects, hence `Any`.

    Attributes:
        Parameters: a pydantic model for the plan's `[task_parameters]`, or None.
        metric_names: what an overridden `evaluate` returns, if running it once to find out is too slow.
        site: where this instance runs.

    """

    Parameters: ClassVar["type[BaseModel] | None"] = None
    metric_names: ClassVar[Sequence[str]] = ()

    def __init__(self, site: Site) -> None:
        self.site = site

    def model(self) -> Any:
        """Return the model: a `torch.nn.Module`, or a dict of NumPy arrays.

        Called with the plan's seed set, so every site makes the same one.  Tensors with `requires_grad` and
        floating buffers are trained together; the rest stays as it is.
        """
        raise NotImplementedError(f"{type(self).__name__} has no model()")

    def train_data(self) -> Any:
        """Return this site's training data.

        A map-style Dataset (anything with a length and an index), a TensorDataset or a tuple of tensors is
        cut into shuffled batches as the plan says; a DataLoader keeps its own batches.
        """
        raise NotImplementedError(f"{type(self).__name__} has no train_data()")

    def eval_data(self) -> Any:
        """Return held-out data, of the same kinds, or None for a site that has none."""
        return None

    def loss(self, model: Any, batch: Any) -> Any:
        """Return the mean loss of a batch: a scalar tensor."""
        raise NotImplementedError(f"{type(self).__name__} has no loss(model, batch)")

    def metrics(self, model: Any, batch: Any) -> Mapping[str, tuple[Any, Any]]:
        """Return {name: (sum, count)} of a batch, the same names for each.  "loss" is added from `loss`."""
        return {}

    def optimizer(self, parameters: Any) -> Any:
        """Return an optimiser of these parameters, a new one each round, or None for the plan's."""
        return None

    def predict(self, model: Any, batch: Any) -> Any:
        """Return one prediction, or one row of them, an example.

        Default: the model of the batch, or of its first element where a batch is (inputs, targets).
        """
        return model(batch[0] if isinstance(batch, tuple | list) else batch)

    def train(self, model: Any, context: Context) -> int | None:
        """Train `model` in place.

        Override for a loop of your own; `super().train(model, context)` is the plan's.

        Returns:
            How many examples this site learnt from (each once, however many epochs): its weight.  None: the
            length of `train_data()`.

        """
        return context.loops.train(self, model, context)

    def evaluate(self, model: Any, context: Context) -> Counts:
        """Return {metric: (sum, count)} of `model` over the held-out data; empty if there is none."""
        return context.loops.evaluate(self, model, context)
