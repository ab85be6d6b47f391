"""What each may do: permissions, roles, bindings, and the one `decide()` of every interface.

Tables: `bindings`.

Invariants:
- One function decides for HTTP, CLI, MCP, chat and console; it answers with its reason and with what would allow it.
- Nothing is allowed that no binding or key role names: an unknown permission, role or place is a refusal.
- A permission set is compiled once for each credential and believed only while the process hears of revocations.
- Nobody grants more than they hold.
"""
