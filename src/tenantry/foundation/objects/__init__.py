"""Content of tenants, by key: one port (`ports.ObjectStore`), adapters `directory` and `s3`, one contract suite.

Invariants: a tenant's objects live under `<tenant TypeID>/objects/` and no key, prefix or planted link leads out of it;
a key names whole content or nothing, a write that did not end is never seen; every object ends in the SHA-256 of its
content (32 bytes, on disk and in the bucket alike, so objects may be copied between the two), which `get` verifies.
"""
