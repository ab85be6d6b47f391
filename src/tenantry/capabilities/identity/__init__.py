"""Who may come in: users, service accounts and the API keys they hold.

Tables: `users`, `service_accounts`, `api_keys`.

Invariants:
- A key names its region and scope in itself, so the directory gives one candidate tenant and the key row is read in a
  transaction bound to it; nothing is searched across tenants.
- A secret is shown once and stored as HMAC-SHA-256 under the installation's pepper; an unknown key and a wrong one take
  the same way and read the same.
- A key's roles never exceed what its creator may do in that place.
"""
