-- Deletes finished and cancelled entries and corrects the accounts by what was really used. The gate must be held.
-- Rows somebody else has locked are left for the next time: nobody can make the gate wait. They are found again by their
-- place, which needs no figures of the table: one that was empty when they were taken may hold a flood by now.
CREATE FUNCTION __schema__.retire(p_limit integer) RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
    total integer := 0;
    part record;
BEGIN
    FOR part IN
        WITH ended AS (
            SELECT e.ctid AS place FROM __schema__.entries e
             WHERE e.used_slot_seconds IS NOT NULL OR (e.cancel_requested AND e.state <> 'claimed')
             ORDER BY e.enqueued_at LIMIT p_limit FOR UPDATE SKIP LOCKED
        ), gone AS (
            DELETE FROM __schema__.entries e USING ended d
             WHERE e.ctid = d.place
            RETURNING e.leaf, e.lane, e.state, e.used_slot_seconds - e.charged AS owed
        )
        SELECT g.leaf, g.lane, count(*)::integer AS ended,
               coalesce(sum(g.owed) FILTER (WHERE g.state = 'claimed'), 0) AS owed,
               count(*) FILTER (WHERE g.state = 'queued')::integer AS queued,
               count(*) FILTER (WHERE g.state = 'claimed')::integer AS running
          FROM gone g GROUP BY g.leaf, g.lane
    LOOP
        total := total + part.ended;
        IF part.leaf IS NOT NULL THEN
            PERFORM __schema__.settle(part.leaf, part.lane, part.owed, -part.queued, -part.running);
        END IF;
    END LOOP;
    RETURN total;
END
$$;
