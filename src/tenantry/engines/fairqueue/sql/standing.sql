-- Estimates how many entries start before this one: at each level a sibling goes first with what it may still use until
-- it reaches our virtual time, taking its entries to cost what ours does.
CREATE FUNCTION __schema__.standing(p_first uuid, p_entry uuid, p_alive_seconds double precision)
RETURNS TABLE (now_state text, ahead_own bigint, ahead_all bigint, able_workers integer)
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    ours __schema__.entries;
    way bigint[];
    cost double precision;
    start double precision;
BEGIN
    SELECT e.* INTO ours FROM __schema__.entries e
     WHERE e.__first__ = p_first AND e.__entry__ = p_entry AND e.used_slot_seconds IS NULL
       AND NOT (e.cancel_requested AND e.state <> 'claimed');
    IF NOT FOUND THEN
        RETURN;
    END IF;
    now_state := ours.state;
    SELECT count(*) INTO able_workers FROM __schema__.workers w
     WHERE ours.labels <@ w.labels AND ours.slots <= w.slots
       AND w.heartbeat_at > clock_timestamp() - make_interval(secs => p_alive_seconds);
    IF ours.state = 'queued' THEN
        cost := ours.estimate_seconds * ours.slots;
        SELECT count(*) INTO ahead_all FROM __schema__.entries e
         WHERE e.leaf = ours.leaf AND e.lane = ours.lane AND e.state = 'queued' AND NOT e.cancel_requested
           AND (e.enqueued_at, e.__entry__) < (ours.enqueued_at, ours.__entry__);
        SELECT n.above || n.id INTO way FROM __schema__.nodes n WHERE n.id = ours.leaf;
        FOR depth IN REVERSE 3..1 LOOP
            ahead_own := ahead_all;
            SELECT f.vt + ahead_all * cost / n.weight INTO start
              FROM __schema__.fronts f JOIN __schema__.nodes n ON n.id = f.node
             WHERE f.node = way[depth] AND f.lane = ours.lane;
            SELECT ahead_all + coalesce(sum(least(f.queued, ceil((start - f.vt) * n.weight / cost))), 0)::bigint
              INTO ahead_all
              FROM __schema__.fronts f JOIN __schema__.nodes n ON n.id = f.node
             WHERE f.lane = ours.lane AND f.parent = coalesce(way[depth - 1], 0) AND f.queued > 0 AND f.vt < start
               AND f.node <> way[depth];
        END LOOP;
    END IF;
    RETURN NEXT;
END
$$;
