"""Keeps torch's compiler out of processes that do not compile.

The first use of any torch optimiser imports all of torch._dynamo, only to tell it to look away: 1.5 s and
80 MB a client (torch 2.13) before the first step.  Both places are passed by: methods marked "not to be
compiled" get the mark's cache (`torch._compile._disable_dynamo`) filled with the method itself, which is how
it acts outside of a compiler, and `step` is called below its wrapper.  If torch changes, it is only slower.
"""

import inspect
import sys
from collections.abc import Callable
from functools import partial

import torch
from torch.optim import Optimizer


def skip_compiler() -> None:
    """Mark the optimisers' methods as plain, unless the task has loaded the compiler."""
    if "torch._dynamo" in sys.modules:
        return
    for method in vars(Optimizer).values():
        plain = getattr(method, "__wrapped__", None)
        code = getattr(method, "__code__", None)
        if plain is not None and code is not None and code.co_filename.endswith("_compile.py"):
            plain.__dynamo_disable = plain


def bare_step(optimiser: Optimizer) -> Callable[[], object]:
    """Return `optimiser.step` without hooks and profiling; for optimisers that we made ourselves."""
    return torch.no_grad()(partial(inspect.unwrap(type(optimiser).step), optimiser))
