-- Estimates how many entries start before this one: at each level a sibling goes first with what it may still use until
-- it reaches our virtual time, taking its entries to cost what ours does. What is held back goes before nobody.
CREATE FUNCTION __schema__.standing(p_first uuid, p_entry uuid, p_alive_seconds double precision)
RETURNS TABLE (
    now_state text, ahead_own bigint, ahead_all bigint, able_workers integer, able_slots bigint, slots_in_use bigint,
    held_level integer, held_most_running integer, held_running bigint, starts_in_seconds double precision
)
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    ours __schema__.entries;
    able uuid[];
    way bigint[];
    cost double precision;
    ahead_cost double precision;  -- in slot-seconds
    ahead_below bigint[];
    start double precision;
    left_seconds double precision;
BEGIN
    SELECT e.* INTO ours FROM __schema__.entries e
     WHERE e.__first__ = p_first AND e.__entry__ = p_entry AND e.used_slot_seconds IS NULL
       AND NOT (e.cancel_requested AND e.state <> 'claimed');
    IF NOT FOUND THEN
        RETURN;
    END IF;
    now_state := ours.state;
    SELECT array_agg(w.worker), count(*), coalesce(sum(w.slots), 0) INTO able, able_workers, able_slots
      FROM __schema__.workers w
     WHERE ours.labels <@ w.labels AND ours.slots <= w.slots
       AND w.heartbeat_at > clock_timestamp() - make_interval(secs => p_alive_seconds);
    SELECT coalesce(sum(e.slots), 0), avg(greatest(0, e.estimate_seconds - extract(epoch FROM clock_timestamp() - e.claimed_at)))
      INTO slots_in_use, left_seconds
      FROM __schema__.entries e
     WHERE e.state = 'claimed' AND e.worker = ANY (able) AND e.used_slot_seconds IS NULL;
    IF ours.state = 'claimed' THEN
        RETURN NEXT;
        RETURN;
    END IF;
    SELECT ARRAY[a.id, b.id] INTO way
      FROM __schema__.nodes a LEFT JOIN __schema__.nodes b ON b.parent = a.id AND b.key = ours.__second__
     WHERE a.parent = 0 AND a.key = ours.__first__;
    SELECT u.level, n.most_running, (SELECT coalesce(sum(f.running), 0) FROM __schema__.fronts f WHERE f.node = n.id)
      INTO held_level, held_most_running, held_running
      FROM unnest(way) WITH ORDINALITY AS u (id, level) JOIN __schema__.nodes n ON n.id = u.id
     WHERE __schema__.is_full(n.id) ORDER BY u.level LIMIT 1;
    IF ours.state <> 'queued' THEN
        RETURN NEXT;
        RETURN;
    END IF;
    cost := ours.estimate_seconds * ours.slots;
    SELECT count(*), coalesce(sum(e.estimate_seconds * e.slots), 0) INTO ahead_all, ahead_cost
      FROM __schema__.entries e
     WHERE e.leaf = ours.leaf AND e.lane = ours.lane AND e.state = 'queued' AND NOT e.cancel_requested
       AND (e.enqueued_at, e.__entry__) < (ours.enqueued_at, ours.__entry__);
    SELECT n.above || n.id INTO way FROM __schema__.nodes n WHERE n.id = ours.leaf;
    FOR depth IN REVERSE 3..1 LOOP
        ahead_own := ahead_all;
        ahead_below[depth] := ahead_all;
        SELECT f.vt + ahead_cost / n.weight INTO start
          FROM __schema__.fronts f JOIN __schema__.nodes n ON n.id = f.node
         WHERE f.node = way[depth] AND f.lane = ours.lane;
        SELECT ahead_all + coalesce(sum(least(f.queued - f.shut, ceil((start - f.vt) * n.weight / cost))), 0)::bigint,
               ahead_cost + coalesce(sum(least((f.queued - f.shut) * cost, (start - f.vt) * n.weight)), 0)
          INTO ahead_all, ahead_cost
          FROM __schema__.fronts f JOIN __schema__.nodes n ON n.id = f.node
         WHERE f.lane = ours.lane AND f.parent = coalesce(way[depth - 1], 0) AND f.queued > f.shut AND NOT f.held
           AND f.vt < start AND f.node <> way[depth];
    END LOOP;
    IF able_slots > 0 THEN
        starts_in_seconds := CASE
            WHEN slots_in_use + (ahead_all + 1) * ours.slots <= able_slots THEN 0
            WHEN slots_in_use + ours.slots <= able_slots THEN ahead_cost / able_slots
            ELSE ahead_cost / able_slots + coalesce(left_seconds, 0) END;
    END IF;
    IF held_most_running = 0 THEN
        starts_in_seconds := NULL;
    ELSIF held_level IS NOT NULL AND able_slots > 0 THEN  -- whichever is later: its turn of all, or of its own level
        SELECT avg(greatest(0, e.estimate_seconds - extract(epoch FROM clock_timestamp() - e.claimed_at)))
          INTO left_seconds
          FROM __schema__.entries e JOIN __schema__.nodes n ON n.id = e.leaf
         WHERE e.state = 'claimed' AND e.used_slot_seconds IS NULL AND n.above[held_level] = way[held_level];
        starts_in_seconds := greatest(
            starts_in_seconds,
            coalesce(left_seconds, 0) + ahead_below[held_level] * ours.estimate_seconds / held_most_running
        );
    END IF;
    RETURN NEXT;
END
$$;
