-- Hides from descents which of the nodes are at their cap, and shows those that no longer are. The gate must be held.
-- `held` is a node's own; `shut` counts what a first-level node has below held ones, so it is hidden, too, where that
-- is all. What is shown again is lifted as one that wakes: being held saves up no credit.
CREATE FUNCTION __schema__.hold(p_nodes bigint[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    part record;
BEGIN
    FOR part IN
        SELECT n.id, x.is_full FROM unnest(p_nodes) AS n (id) CROSS JOIN LATERAL __schema__.is_full(n.id) AS x (is_full)
         WHERE EXISTS (SELECT FROM __schema__.fronts f WHERE f.node = n.id AND f.held <> x.is_full)
    LOOP
        UPDATE __schema__.fronts f
           SET held = part.is_full,
               vt = CASE WHEN part.is_full THEN f.vt ELSE greatest(f.vt, __schema__.least_above(f.parent, f.lane)) END
         WHERE f.node = part.id;
        UPDATE __schema__.fronts p
           SET shut = p.shut + CASE WHEN part.is_full THEN c.queued ELSE -c.queued END,
               vt = CASE WHEN part.is_full OR p.queued > p.shut THEN p.vt
                         ELSE greatest(p.vt, __schema__.least_above(p.parent, p.lane)) END
          FROM __schema__.fronts c
         WHERE c.node = part.id AND c.queued > 0 AND p.node = c.parent AND p.lane = c.lane;
    END LOOP;
END
$$;
