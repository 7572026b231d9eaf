"""What a file of the site's cache is bound to."""

from unisono.base.ids import Digest
from unisono.crypto import encode


def cached(model: Digest) -> bytes:
    """Return the context of a model in the cache: what opens under it is the model of that digest.

    So the process that trains need not hash what the process that fetched it has hashed.
    """
    return encode("cache", model)
