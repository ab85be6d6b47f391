-- Adds to the accounts of a leaf and of all above it. The gate must be held.
-- The cost counts in every lane of a node: what it used elsewhere is still its use. A refund may put a node below the
-- least virtual time kept above it, which is then lowered: no waiting node may be less than that. One that only now
-- begins to wait is lifted to it instead, as whenever one wakes.
CREATE FUNCTION __schema__.settle(
    p_leaf bigint, p_lane integer, p_cost double precision, p_queued integer, p_running integer
) RETURNS void LANGUAGE plpgsql
AS $$
DECLARE
    way bigint[];
    below_held boolean;
    capped boolean;
BEGIN
    SELECT n.above || n.id INTO way FROM __schema__.nodes n WHERE n.id = p_leaf;
    SELECT f.held INTO below_held FROM __schema__.fronts f WHERE f.node = way[2] AND f.lane = p_lane;
    WITH settled AS (
        UPDATE __schema__.fronts f
           SET vt = f.vt + p_cost / n.weight,
               queued = CASE WHEN f.lane = p_lane THEN greatest(f.queued + p_queued, 0) ELSE f.queued END,
               running = CASE WHEN f.lane = p_lane THEN greatest(f.running + p_running, 0) ELSE f.running END,
               shut = CASE WHEN f.lane = p_lane AND f.node = way[1] AND below_held
                           THEN greatest(f.shut + p_queued, 0) ELSE f.shut END,
               touched_at = now()
          FROM __schema__.nodes n
         WHERE f.node = ANY (way) AND n.id = f.node
        RETURNING n.most_running
    )
    SELECT bool_or(s.most_running IS NOT NULL) INTO capped FROM settled s;
    IF p_queued > 0 THEN
        UPDATE __schema__.fronts f SET vt = greatest(f.vt, __schema__.least_above(f.parent, f.lane))
         WHERE f.node = ANY (way) AND f.lane = p_lane AND f.queued - p_queued <= f.shut;
    END IF;
    IF p_cost < 0 THEN  -- OFFSET 0: by the nodes, never through the whole index of what waits
        UPDATE __schema__.fronts f SET least_vt = c.vt
          FROM (SELECT o.parent, o.lane, o.vt, o.queued > o.shut AND NOT o.held AS waits
                  FROM __schema__.fronts o WHERE o.node = ANY (way) OFFSET 0) c
         WHERE c.waits AND f.node = c.parent AND f.lane = c.lane AND f.least_vt > c.vt;
        UPDATE __schema__.lanes l SET least_vt = c.vt
          FROM (SELECT o.lane, o.vt, o.queued > o.shut AND NOT o.held AS waits
                  FROM __schema__.fronts o WHERE o.node = way[1] OFFSET 0) c
         WHERE c.waits AND l.id = c.lane AND l.least_vt > c.vt;
    END IF;
    IF capped AND p_running <> 0 THEN
        PERFORM __schema__.hold(way[1:2]);
    END IF;
END
$$;
