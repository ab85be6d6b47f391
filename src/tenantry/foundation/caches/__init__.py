"""Short-lived state that many requests share: rate limits, ETags, nonces of signed calls.

Three semantic ports (`ports`), each with two adapters that pass one contract suite: `embedded` (plain Python, exactly
one server process) and `shared` (Redis or Valkey, any number of processes). `factory.open_caches` picks.

Invariants: every key begins with its tenant, `tenantry:{<tenant hex>}:`, and the braces make one tenant one cluster
slot; a store that is down, slow, full or flushed refuses, it never admits; memory is bounded and one tenant's flood
evicts only that tenant's entries.
"""
