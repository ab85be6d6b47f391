"""Who did what to which resource, with which outcome: append-only, in the transaction of the effect.

Tables: `audit_events` (canonical bytes and their leaf; the application may insert and read, never change),
`audit_unsealed` (waiting for a place); written by the sealer alone: `audit_sequence` (the order, with the leaves),
`audit_heads` and `audit_tiles` (each tenant's tree over them), `audit_unsigned`, `audit_checkpoints` (signed notes);
what follows the order: `audit_index` and `audit_words` (searched words), `audit_days` (a file a day), `audit_streams`;
`audit_forgettings` (whom to forget: asked for by the application, worked off by the sealer).

Invariants:
- An effect and its event commit together or not at all.
- The canonical bytes (RFC 8785) are the event; columns beside them serve filters and are derived from them.
- Reads and refusals have no transaction of their own: they wait in a bounded buffer for a group commit. A full buffer
  refuses the request (503), it never drops an event.
- A tree is grown by one sealer at a time, in the transaction that gives the places; what is damaged is not built upon.
- A checkpoint is told to a witness outside of the database before it is kept.
- Details hold ids, names and numbers: no content, no secrets.
- Whatever follows the events has a cursor over their sequence, moved after what it is the cursor of; no request waits.
- A search reads a bounded piece of the trail, and words of listed fields alone.
"""
