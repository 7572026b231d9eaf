"""A pseudorandom stream: the AES-256-CTR keystream (NIST SP 800-38A, section 6.5)."""

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from unisono.base.errors import Fault

from .buffers import Readable, flat

BLOCK = 16
CHUNK = 1 << 17  # hides the call of the cipher (64 kB: 6 % slower; 512 kB: 1 % faster), stays in the cache
# Encrypting zeros gives the bare keystream.  Read only, so that all streams and threads share it.
_ZEROS = memoryview(bytes(CHUNK))


class Stream:
    """The keystream of `key` (32 bytes) from byte `offset` on.

    Byte 0 belongs to counter 0, so any chunk can be made again alone: counter = offset // 16.  A key serves
    one stream and nothing else (the counter block has no room for a nonce).
    """

    __slots__ = ("_keystream",)

    def __init__(self, key: bytes, offset: int = 0) -> None:
        if len(key) != 32:
            raise Fault(f"a stream key has 32 bytes, not {len(key)}")
        counter, skip = divmod(offset, BLOCK)
        self._keystream = Cipher(algorithms.AES(key), modes.CTR(counter.to_bytes(BLOCK, "big"))).encryptor()
        self._keystream.update(_ZEROS[:skip])

    def fill(self, buffer: Readable) -> None:
        """Overwrite writable, contiguous `buffer` with the next bytes.  Allocates nothing, frees the GIL."""
        target = flat(buffer)
        for start in range(0, len(target), CHUNK):
            part = target[start : start + CHUNK]
            self._keystream.update_into(_ZEROS[: len(part)], part)
