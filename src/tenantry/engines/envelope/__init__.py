"""Envelope encryption: data keys in keysets, keysets wrapped by a key that is elsewhere. See README.md.

Invariants: a ciphertext opens only under the associated data it was sealed with; no error, `repr` or log holds
plaintext or key material; a retired key's material is gone from the keyset, not marked.
"""
