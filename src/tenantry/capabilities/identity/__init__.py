"""Who may come in: users, service accounts, the API keys they hold, and what else accounts prove themselves by.

Tables: `users`, `service_accounts`, `api_keys`, `client_certificates`, `signing_keys`.

Invariants:
- A key names its region and scope in itself, so the directory gives one candidate tenant and the key row is read in a
  transaction bound to it; nothing is searched across tenants.
- A secret is shown once and stored as HMAC-SHA-256 under the installation's pepper; an unknown key and a wrong one take
  the same way and read the same.
- A key's roles never exceed what its creator may do in that place.
- Keys and signing keys end; a key that was rotated ends with its grace, by the clock.
- A certificate is known by its fingerprint in one workspace, whoever has signed it; whoever registers it, or a signing
  key, holds what the account is bound to.
"""
