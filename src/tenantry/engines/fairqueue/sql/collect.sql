-- Forgets what has been idle for so long, looking at p_limit nodes from where it stopped last; says how many went.
-- A node with a weight of its own stays. What a forgotten node owed is forgiven.
CREATE FUNCTION __schema__.collect(p_idle_seconds double precision, p_limit integer) RETURNS integer
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    since CONSTANT timestamptz := now() - make_interval(secs => p_idle_seconds);
    seen bigint[];
    gone bigint[];
    idle_lanes integer[];
BEGIN
    PERFORM FROM __schema__.gate FOR UPDATE;
    SELECT array_agg(s.id) INTO seen FROM (
        SELECT n.id FROM __schema__.nodes n JOIN __schema__.gate g ON n.id > g.collected_up_to
         ORDER BY n.id LIMIT p_limit
    ) s;
    WITH deleted AS (
        DELETE FROM __schema__.nodes n
         WHERE n.id = ANY (seen) AND n.weight = 1
           AND NOT EXISTS (SELECT FROM __schema__.nodes c WHERE c.parent = n.id)
           AND NOT EXISTS (SELECT FROM __schema__.fronts f
                            WHERE f.node = n.id AND (f.queued > 0 OR f.touched_at > since))
           AND NOT EXISTS (SELECT FROM __schema__.entries e WHERE e.state = 'claimed' AND e.leaf = n.id)
        RETURNING n.id
    )
    SELECT array_agg(d.id) INTO gone FROM deleted d;
    DELETE FROM __schema__.fronts f WHERE f.node = ANY (gone);
    IF coalesce(cardinality(seen), 0) = p_limit THEN
        UPDATE __schema__.gate SET collected_up_to = seen[p_limit];
        RETURN coalesce(cardinality(gone), 0);
    END IF;
    UPDATE __schema__.gate SET collected_up_to = 0;  -- one round is over
    SELECT array_agg(l.id) INTO idle_lanes FROM __schema__.lanes l
     WHERE l.used_at <= since
       AND NOT EXISTS (SELECT FROM __schema__.fronts f WHERE f.lane = l.id AND f.parent = 0 AND f.queued > 0)
       AND NOT EXISTS (SELECT FROM __schema__.entries e WHERE e.state = 'claimed' AND e.lane = l.id);
    IF idle_lanes IS NOT NULL THEN
        DELETE FROM __schema__.fronts f WHERE f.lane = ANY (idle_lanes);
        DELETE FROM __schema__.lanes l WHERE l.id = ANY (idle_lanes);
    END IF;
    DELETE FROM __schema__.workers w WHERE w.heartbeat_at <= since
        AND NOT EXISTS (SELECT FROM __schema__.entries e WHERE e.state = 'claimed' AND e.worker = w.worker);
    RETURN coalesce(cardinality(gone), 0);
END
$$;
