"""The fence: tenant-bound sessions on PostgreSQL, the context they sign, the roles, migrations and the self-test.

Invariants:
- No statement reaches tenant content but in a transaction whose signed context PostgreSQL itself has verified.
- `platform_session` is the only way to step outside of a tenant; the import contract lists who may.
- The application role can neither create nor own anything, nor see another session's query text.
"""
