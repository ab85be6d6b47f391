"""The SQL of each operation, as templates of `Names.fill`."""

ENQUEUE = """\
INSERT INTO __schema__.entries (__first__, __second__, __third__, __entry__, estimate_seconds, slots, labels)
VALUES ($1, $2, $3, $4, $5, $6, $7)"""

CANCEL = """\
UPDATE __schema__.entries SET cancel_requested = true
 WHERE __first__ = $1 AND __entry__ = $2 AND used_slot_seconds IS NULL
   AND NOT (cancel_requested AND state <> 'claimed')
RETURNING state"""

FINISH = """\
UPDATE __schema__.entries SET used_slot_seconds = $4
 WHERE __first__ = $1 AND __entry__ = $2 AND attempt = $3 AND state = 'claimed' AND used_slot_seconds IS NULL
RETURNING attempt"""

CLAIM = """\
SELECT __first__, __entry__, attempt, __second__, __third__, slots, labels, estimate_seconds, charged
  FROM __schema__.claim($1, $2, $3, $4, $5)"""

RENEW = """\
WITH asked AS (
    SELECT e.__first__ AS first, e.__entry__ AS entry, e.attempt
      FROM unnest($2::uuid[], $3::uuid[], $4::integer[]) AS a (first, entry, attempt)
      JOIN __schema__.entries e ON e.__first__ = a.first AND e.__entry__ = a.entry AND e.attempt = a.attempt
     WHERE e.worker = $1 AND e.state = 'claimed' AND e.used_slot_seconds IS NULL AND e.lease_until > clock_timestamp()
), free AS (
    SELECT e.__first__ AS first, e.__entry__ AS entry
      FROM __schema__.entries e JOIN asked a ON e.__first__ = a.first AND e.__entry__ = a.entry
     WHERE e.attempt = a.attempt AND e.worker = $1 AND e.state = 'claimed' AND e.used_slot_seconds IS NULL
       FOR UPDATE OF e SKIP LOCKED
), extended AS (
    UPDATE __schema__.entries e SET lease_until = clock_timestamp() + make_interval(secs => $5)
      FROM free f WHERE e.__first__ = f.first AND e.__entry__ = f.entry
    RETURNING e.__first__ AS first, e.__entry__ AS entry
)
SELECT a.first, a.entry, a.attempt, x.entry IS NOT NULL AS extended
  FROM asked a LEFT JOIN extended x ON x.first = a.first AND x.entry = a.entry"""

GIVE_BACK = "SELECT __schema__.give_back($1, $2, $3, $4)"

DROP = """\
UPDATE __schema__.entries SET used_slot_seconds = charged
 WHERE __first__ = $1 AND __entry__ = $2 AND attempt = $3 AND state = 'claimed' AND used_slot_seconds IS NULL
   AND lease_until <= clock_timestamp()
RETURNING attempt"""

LAPSED = """\
SELECT __first__, __entry__, attempt, __second__, __third__, worker, cancel_requested
  FROM __schema__.entries
 WHERE state = 'claimed' AND used_slot_seconds IS NULL AND lease_until <= clock_timestamp()
   AND __first__ <> ALL ($2::uuid[])
 ORDER BY lease_until LIMIT $1"""

CANCELLED = """\
SELECT __first__, __entry__, attempt FROM __schema__.entries
 WHERE worker = $1 AND state = 'claimed' AND cancel_requested AND used_slot_seconds IS NULL"""

HEARTBEAT = """\
WITH before AS (SELECT w.boot FROM __schema__.workers w WHERE w.worker = $1),
lapsed AS (
    UPDATE __schema__.entries e SET lease_until = clock_timestamp() FROM before b
     WHERE b.boot <> $2 AND e.worker = $1 AND e.state = 'claimed' AND e.used_slot_seconds IS NULL
)
INSERT INTO __schema__.workers AS w (worker, boot, labels, slots, heartbeat_at)
VALUES ($1, $2, $3, $4, clock_timestamp())
ON CONFLICT (worker) DO UPDATE
    SET boot = excluded.boot, labels = excluded.labels, slots = excluded.slots, heartbeat_at = excluded.heartbeat_at"""

LEAVE = """\
WITH lapsed AS (
    UPDATE __schema__.entries e SET lease_until = clock_timestamp()
     WHERE e.worker = $1 AND e.state = 'claimed' AND e.used_slot_seconds IS NULL
)
DELETE FROM __schema__.workers w WHERE w.worker = $1"""

STANDING = """\
SELECT now_state, ahead_all, ahead_own, able_workers, able_slots, slots_in_use, held_level, held_most_running,
       held_running, starts_in_seconds
  FROM __schema__.standing($1, $2, $3)"""

# A conflict locks its row even where nothing is then updated, so equal values must not get there. No row: the default.
SET_SHARE = """\
WITH known AS (SELECT k.weight, k.most_running FROM __schema__.shares k WHERE k.__first__ = $1 AND k.__second__ = $2)
INSERT INTO __schema__.shares AS s (__first__, __second__, weight, most_running)
SELECT $1::uuid, $2::uuid, $3::double precision, $4::integer
 WHERE ROW($3::double precision, $4::integer)
       IS DISTINCT FROM ROW(coalesce((SELECT k.weight FROM known k), 1), (SELECT k.most_running FROM known k))
ON CONFLICT (__first__, __second__) DO UPDATE
    SET weight = excluded.weight, most_running = excluded.most_running, changed = true
RETURNING true"""

CATCH_UP = "SELECT __schema__.catch_up()"

COLLECT = "SELECT __schema__.collect($1, $2)"
