"""Plain local training: the task's loop; what travels is the change of the model."""

from unisono.client.trainer.failures import Failed, user_code
from unisono.client.trainer.update import delta

from . import Lesson, Trained


def train(lesson: Lesson) -> Trained:
    """Train in place; return the delta."""
    with user_code():
        examples = lesson.task.train(lesson.held.made, lesson.context)
        if examples is None:
            examples = len(lesson.task.train_data())
    if examples < 1:
        raise Failed("no_data", f"training used {examples} examples")
    return Trained(int(examples), {"delta": delta(lesson.held, lesson.received)})
