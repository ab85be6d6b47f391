-- Forgets what has been idle for so long, looking at p_limit nodes from where it stopped last; says how many went.
-- A node stays while its keys have a share; one whose share was deleted with its keys' rows has none any more, and a
-- leaf that nothing claimed belongs to has nothing running. What a forgotten node owed is forgiven.
CREATE FUNCTION __schema__.collect(p_idle_seconds double precision, p_limit integer) RETURNS integer
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    nil CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
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
    WITH plain AS (
        UPDATE __schema__.nodes n SET weight = 1, most_running = NULL
         WHERE n.id = ANY (seen) AND (n.weight <> 1 OR n.most_running IS NOT NULL)
           AND NOT EXISTS (SELECT FROM __schema__.shares s
                            WHERE n.parent = 0 AND s.__first__ = n.key AND s.__second__ = nil)
           AND NOT EXISTS (SELECT FROM __schema__.nodes a JOIN __schema__.shares s ON s.__first__ = a.key
                            WHERE a.id = n.parent AND a.parent = 0 AND s.__second__ = n.key)
        RETURNING n.id
    )
    SELECT array_agg(p.id) INTO gone FROM plain p;
    PERFORM __schema__.hold(gone);
    PERFORM __schema__.settle(f.node, f.lane, 0, 0, -f.running)
       FROM __schema__.fronts f JOIN __schema__.nodes n ON n.id = f.node
      WHERE f.node = ANY (seen) AND f.running > 0 AND cardinality(n.above) = 2 AND f.touched_at <= since
        AND NOT EXISTS (SELECT FROM __schema__.entries e WHERE e.state = 'claimed' AND e.leaf = n.id);
    WITH deleted AS (
        DELETE FROM __schema__.nodes n
         WHERE n.id = ANY (seen) AND n.weight = 1 AND n.most_running IS NULL
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
       AND NOT EXISTS (SELECT FROM __schema__.fronts f WHERE f.lane = l.id AND f.parent = 0 AND f.queued > f.shut AND NOT f.held)
       AND NOT EXISTS (SELECT FROM __schema__.fronts h WHERE h.held AND h.lane = l.id AND h.queued > 0)
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
