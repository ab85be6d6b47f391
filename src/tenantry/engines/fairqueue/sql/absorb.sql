-- Takes new entries into the tree and says how many (0: none is left). The gate must be held.
-- It goes round the first-level keys, 400 entries of 20 of them a time, so that a flood of one cannot delay another's.
CREATE FUNCTION __schema__.absorb() RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
    nil CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    start uuid;
    reached uuid;
    wrapped boolean;
    batch __schema__.entries[];
    leaves bigint[];
    leaf_lanes integer[];
    counts integer[];
    full_nodes bigint[];
BEGIN
    IF NOT EXISTS (SELECT FROM __schema__.entries e WHERE e.state = 'new') THEN
        RETURN 0;
    END IF;
    SELECT g.absorbed_up_to, g.absorbed_up_to = nil INTO start, wrapped FROM __schema__.gate g;
    LOOP
        WITH RECURSIVE firsts AS (
            (SELECT e.__first__ AS first FROM __schema__.entries e
              WHERE e.state = 'new' AND e.__first__ > start ORDER BY e.__first__ LIMIT 1)
            UNION ALL
            SELECT (SELECT e.__first__ FROM __schema__.entries e
                     WHERE e.state = 'new' AND e.__first__ > f.first ORDER BY e.__first__ LIMIT 1)
              FROM firsts f WHERE f.first IS NOT NULL
        ), turn AS MATERIALIZED (SELECT f.first FROM firsts f WHERE f.first IS NOT NULL LIMIT 20)
        SELECT array_agg(picked.e) FILTER (WHERE (picked.e).state IS NOT NULL),
               (array_agg(turn.first ORDER BY turn.first DESC))[1]
          INTO batch, reached
          FROM turn
          LEFT JOIN LATERAL (
            SELECT e FROM __schema__.entries e WHERE e.state = 'new' AND e.__first__ = turn.first
             ORDER BY e.enqueued_at, e.__entry__ LIMIT (SELECT 400 / count(*) FROM turn) FOR UPDATE SKIP LOCKED
          ) picked ON true;
        EXIT WHEN batch IS NOT NULL;
        IF reached IS NOT NULL THEN  -- all locked by their owners
            start := reached;
        ELSIF wrapped THEN
            RETURN 0;
        ELSE
            start := nil;
            wrapped := true;
        END IF;
    END LOOP;
    UPDATE __schema__.gate SET absorbed_up_to = reached;

    INSERT INTO __schema__.lanes (labels, slots, least_vt)
        SELECT DISTINCT b.labels, b.slots, (SELECT coalesce(max(l.least_vt), 0) FROM __schema__.lanes l)
          FROM unnest(batch) b
         WHERE NOT EXISTS (SELECT FROM __schema__.lanes l WHERE l.labels = b.labels AND l.slots = b.slots);
    -- OFFSET 0 keeps each look-up one probe of the index, whatever the planner thinks of a table it has no figures of.
    INSERT INTO __schema__.nodes (parent, key, above)
        SELECT DISTINCT 0, b.__first__, '{}'::bigint[] FROM unnest(batch) b
         WHERE NOT EXISTS (SELECT FROM __schema__.nodes n WHERE n.parent = 0 AND n.key = b.__first__ OFFSET 0);
    INSERT INTO __schema__.nodes (parent, key, above)
        SELECT DISTINCT a.id, b.__second__, a.above || a.id FROM unnest(batch) b
          CROSS JOIN LATERAL (
            SELECT n.id, n.above FROM __schema__.nodes n WHERE n.parent = 0 AND n.key = b.__first__ OFFSET 0) a
         WHERE NOT EXISTS (SELECT FROM __schema__.nodes n WHERE n.parent = a.id AND n.key = b.__second__ OFFSET 0);
    INSERT INTO __schema__.nodes (parent, key, above)
        SELECT DISTINCT w.id, b.__third__, w.above || w.id FROM unnest(batch) b
          CROSS JOIN LATERAL (SELECT n.id FROM __schema__.nodes n WHERE n.parent = 0 AND n.key = b.__first__ OFFSET 0) a
          CROSS JOIN LATERAL (
            SELECT n.id, n.above FROM __schema__.nodes n WHERE n.parent = a.id AND n.key = b.__second__ OFFSET 0) w
         WHERE NOT EXISTS (SELECT FROM __schema__.nodes n WHERE n.parent = w.id AND n.key = b.__third__ OFFSET 0);

    WITH placed AS (
        UPDATE __schema__.entries e SET state = 'queued', leaf = p.id, lane = l.id
          FROM unnest(batch) b
          CROSS JOIN LATERAL (
            SELECT l.id FROM __schema__.lanes l WHERE l.labels = b.labels AND l.slots = b.slots OFFSET 0) l
          CROSS JOIN LATERAL (SELECT n.id FROM __schema__.nodes n WHERE n.parent = 0 AND n.key = b.__first__ OFFSET 0) a
          CROSS JOIN LATERAL (
            SELECT n.id FROM __schema__.nodes n WHERE n.parent = a.id AND n.key = b.__second__ OFFSET 0) w
          CROSS JOIN LATERAL (
            SELECT n.id FROM __schema__.nodes n WHERE n.parent = w.id AND n.key = b.__third__ OFFSET 0) p
          CROSS JOIN LATERAL (
            SELECT o.ctid AS place FROM __schema__.entries o
             WHERE o.__first__ = b.__first__ AND o.__entry__ = b.__entry__ OFFSET 0) locked
         WHERE e.ctid = locked.place
        RETURNING e.leaf, e.lane
    ), grouped AS (SELECT p.leaf, p.lane, count(*)::integer AS n FROM placed p GROUP BY p.leaf, p.lane)
    SELECT array_agg(g.leaf), array_agg(g.lane), array_agg(g.n) INTO leaves, leaf_lanes, counts FROM grouped g;

    SELECT coalesce(array_agg(up.id), '{}') INTO full_nodes
      FROM (SELECT DISTINCT unnest(leaf.above) AS id FROM unnest(leaves) g (leaf)
             CROSS JOIN LATERAL (SELECT n.above FROM __schema__.nodes n WHERE n.id = g.leaf OFFSET 0) leaf) up
      CROSS JOIN LATERAL (SELECT n.most_running FROM __schema__.nodes n WHERE n.id = up.id OFFSET 0) own
     WHERE own.most_running IS NOT NULL AND __schema__.is_full(up.id);

    -- From the root down, because a row that wakes is lifted to the least virtual time its parent keeps for the lane.
    FOR depth IN 1..3 LOOP
        INSERT INTO __schema__.fronts AS f (node, lane, parent, vt, least_vt, queued, held, shut)
            SELECT n.id, fresh.lane, n.parent,
                   greatest(coalesce(known.vt, 0), CASE depth WHEN 1 THEN l.least_vt ELSE up.least_vt END),
                   coalesce(known.least_vt, 0), fresh.queued, n.id = ANY (full_nodes), fresh.shut
              FROM (SELECT (leaf.above || leaf.id)[depth] AS node, g.lane, sum(g.n)::integer AS queued,
                           (coalesce(sum(g.n) FILTER (WHERE depth = 1 AND leaf.above[2] = ANY (full_nodes)), 0)
                           )::integer AS shut
                      FROM unnest(leaves, leaf_lanes, counts) g (leaf, lane, n)
                      JOIN __schema__.nodes leaf ON leaf.id = g.leaf
                     GROUP BY 1, 2) fresh
              JOIN __schema__.nodes n ON n.id = fresh.node
              JOIN __schema__.lanes l ON l.id = fresh.lane
              LEFT JOIN __schema__.fronts up ON up.node = n.parent AND up.lane = fresh.lane
              CROSS JOIN LATERAL (SELECT min(o.vt) AS vt, max(o.least_vt) AS least_vt
                                    FROM __schema__.fronts o WHERE o.node = n.id) known
        ON CONFLICT (node, lane) DO UPDATE
            SET queued = f.queued + excluded.queued, shut = f.shut + excluded.shut, touched_at = now(),
                vt = CASE WHEN f.queued <= f.shut OR f.held THEN greatest(f.vt, excluded.vt) ELSE f.vt END;
    END LOOP;
    RETURN cardinality(batch);
END
$$;
