"""What may run: documents of rules in layers, each of which can only narrow what the layers above it allow.

Tables: `policies`, `exemptions`, `policy_decisions`.

Invariants:
- Work is asked of every layer, platform, tenant and workspace; what one of them denies is denied.
- A document that cannot be read changes nothing: the one in force stays in force.
- A version never changes. Of each place and kind at most one is enforced and one in shadow.
- What is in shadow is asked beside, told, and decides nothing.
- An exemption has an owner, a reason and an end, and lifts no rule of a layer above the place it was made in.
- What cannot be judged is denied, and no exemption lifts that.
"""
