"""Domain separation: what a derived key or a signature is for.

Two uses with one label could be played against each other, so every label of the project stands here, once,
and ends in a version: a changed construction gets a new number.
"""

AT_REST = b"unisono/at-rest/1"  # HKDF info: file key from the master key and the file's salt
SEALED = b"unisono/sealed/1"  # HKDF info: upload key from one X25519 agreement
STATEMENT = b"unisono/statement/1"  # first field under every Ed25519 signature of a site
AUDIT = b"unisono/audit/1"  # first field under the hash of every line of an audit log
