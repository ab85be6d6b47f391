"""A log that nobody can change quietly: Merkle tree, proofs, signed checkpoints, verification in bulk. See README.md.

Invariants: a root binds every leaf, their order and their number; what does not verify raises and never answers false;
no input makes a verifier crash or read without bound; no private key comes in here; nothing is read but by `bulk_file`,
and there only the file it is given.
"""
