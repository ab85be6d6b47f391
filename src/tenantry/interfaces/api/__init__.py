"""REST below `/api/v1`: routes translate HTTP to a capability call; the guard stands before every one of them.

Invariant: a route cannot be registered without a permission or one of the marks `public` and `authenticated`.
"""
