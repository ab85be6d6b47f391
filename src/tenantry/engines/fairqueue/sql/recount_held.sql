-- Claims that vanished without the queue's help (an erased key) would hold a node for ever: every few seconds counts
-- what is claimed at all, once, and sets right what is held wrongly. Says how many counts. The gate must be held.
CREATE FUNCTION __schema__.recount_held() RETURNS integer
LANGUAGE plpgsql SET enable_hashjoin = on
AS $$
DECLARE
    total integer := 0;
    part record;
BEGIN
    IF NOT EXISTS (SELECT FROM __schema__.fronts f WHERE f.held) THEN
        RETURN 0;
    END IF;
    UPDATE __schema__.gate g SET recounted_at = now() WHERE g.recounted_at < now() - interval '5 s';
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    FOR part IN
        WITH claimed AS MATERIALIZED (
            SELECT e.leaf, e.lane, count(*) AS entries FROM __schema__.entries e WHERE e.state = 'claimed' GROUP BY 1, 2
        ), below AS MATERIALIZED (
            SELECT up.node, sum(c.entries) AS entries
              FROM claimed c JOIN __schema__.nodes n ON n.id = c.leaf CROSS JOIN unnest(n.above) AS up (node) GROUP BY 1
        ), held AS MATERIALIZED (
            SELECT f.node, sum(f.running) AS running FROM __schema__.fronts f WHERE f.held GROUP BY 1
        ), wrong AS (
            SELECT h.node FROM held h LEFT JOIN below b ON b.node = h.node WHERE h.running > coalesce(b.entries, 0)
        ), leaves AS (  -- of a second-level node, and of a first-level one
            SELECT n.id FROM wrong w JOIN __schema__.nodes n ON n.parent = w.node AND cardinality(n.above) = 2
            UNION
            SELECT n.id FROM wrong w JOIN __schema__.nodes m ON m.parent = w.node AND cardinality(m.above) = 1
              JOIN __schema__.nodes n ON n.parent = m.id
        )
        SELECT f.node, f.lane, (f.running - coalesce(c.entries, 0))::integer AS excess
          FROM leaves l JOIN __schema__.fronts f ON f.node = l.id
          LEFT JOIN claimed c ON c.leaf = f.node AND c.lane = f.lane
         WHERE f.running > coalesce(c.entries, 0)
    LOOP
        total := total + 1;
        PERFORM __schema__.settle(part.node, part.lane, 0, 0, -part.excess);
    END LOOP;
    RETURN total;
END
$$;
