"""What every storey above stands on: database, objects, caches, settings, errors, ids, clock, telemetry, outbox."""
