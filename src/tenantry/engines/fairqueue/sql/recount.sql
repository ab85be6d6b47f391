-- Rows that vanished without the queue's help (an erased key) leave a count too high: sets it right where a descent
-- met it and says by how much. The gate must be held.
CREATE FUNCTION __schema__.recount(p_leaf bigint, p_lanes integer[]) RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
    total integer := 0;
    part record;
BEGIN
    FOR part IN
        SELECT f.lane, f.queued
             - (SELECT count(*) FROM __schema__.entries e
                 WHERE e.leaf = p_leaf AND e.lane = f.lane AND e.state = 'queued' AND NOT e.cancel_requested)::integer
             - (SELECT count(*) FROM __schema__.entries e
                 WHERE e.leaf = p_leaf AND e.lane = f.lane AND e.state = 'queued' AND e.cancel_requested
                   AND (e.used_slot_seconds IS NOT NULL OR (e.cancel_requested AND e.state <> 'claimed')))::integer
               AS excess
          FROM __schema__.fronts f WHERE f.node = p_leaf AND f.lane = ANY (p_lanes) AND f.queued > 0
    LOOP
        IF part.excess > 0 THEN
            total := total + part.excess;
            PERFORM __schema__.settle(p_leaf, part.lane, 0, -part.excess, 0);
        END IF;
    END LOOP;
    RETURN total;
END
$$;
