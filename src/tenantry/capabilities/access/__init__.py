"""What each may do: permissions, roles, groups, bindings, and the one `decide()` of every interface.

Tables: `bindings`, `roles`, `groups`, `group_members`, `grants`.

Invariants:
- One function decides for HTTP, CLI, MCP, chat and console; it answers with its reason and with what would allow it.
- Nothing is allowed that no binding, grant or key role names: an unknown permission, role or place is a refusal.
- A permission set is compiled once for each credential and believed only while the process hears of revocations.
- A denial weighs more than whatever allows. What depends on a thing is refused until that thing has been looked at.
- Nobody grants more than they hold; to lift a denial is to grant. A delegated key is never more than what made it.
"""
