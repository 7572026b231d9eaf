"""The operating system's generator: what every process passes as `Entropy`, and pure code cannot import."""

import os

from .entropy import Entropy

system_entropy: Entropy = os.urandom
