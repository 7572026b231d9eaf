"""FedSGD's client half: the gradient of the mean loss over all examples, at the model received.

McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data", section 2
(FedSGD).  The batch size of the plan only cuts the pass into pieces: losses are added as sums, not as a
mean of means, so the last, shorter batch counts for what it holds.  No local optimiser, one epoch.

Floating buffers (running statistics) have no gradient but travel: for them the part carries what makes the
coordinator's step, model - learning_rate * mean, end at the mean of the clients' new buffers.
"""

import numpy as np
from numpy.typing import NDArray

from unisono.client.trainer.batches import count
from unisono.client.trainer.failures import Failed, user_code
from unisono.client.trainer.torch_loops import TorchLoops
from unisono.client.trainer.torch_model import TorchModel, to_bytes
from unisono.client.trainer.update import delta
from unisono.tensors import Piece, to_float32

from . import Lesson, Trained


def train(lesson: Lesson) -> Trained:
    """Leave the gradient in the parameters' `grad`; nothing steps."""
    held, loops = lesson.held, lesson.loops
    if not isinstance(held, TorchModel) or not isinstance(loops, TorchLoops):
        raise Failed("task_error", "this strategy sends gradients, which a task of plain arrays has not")
    with user_code():
        examples = _accumulate(lesson, held, loops)
    if examples < 1:
        raise Failed("no_data", "train_data() is empty")
    change = delta(held, lesson.received)
    step = np.float32(str(lesson.parameters["learning_rate"]))

    def source(piece: Piece, begin: int, end: int) -> NDArray[np.float32]:
        tensor = held.tensor(piece.entry.name)
        if not tensor.requires_grad:
            return -change(piece, begin, end) / step
        if tensor.grad is None:  # no path from the loss to it
            return np.zeros(end - begin, np.float32)
        part = to_bytes(tensor.grad.reshape(-1)[begin:end])
        return to_float32(part, piece.entry.dtype) / np.float32(examples)

    return Trained(examples, {"gradient": source})


def _accumulate(lesson: Lesson, held: TorchModel, loops: TorchLoops) -> int:
    """Add the gradients of the summed losses of all batches; return the number of examples."""
    model = held.made
    model.train()
    model.zero_grad(set_to_none=True)
    examples = 0
    feed = loops.training(lesson.task, lesson.context, shuffled=False)
    for done, batch in enumerate(feed.once(), start=1):
        size = count(batch)
        (lesson.task.loss(model, batch) * size).backward()
        examples += size
        lesson.context.progress(done, max(feed.steps, done) if feed.steps else 0)
    return examples
