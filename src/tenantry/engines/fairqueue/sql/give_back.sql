-- Puts a claim back into the queue and refunds its charge; p_worker NULL means a lapsed one, whosever it was.
-- False: the claim is another's by now, or somebody is just changing the row (try again).
CREATE FUNCTION __schema__.give_back(p_first uuid, p_entry uuid, p_attempt integer, p_worker uuid) RETURNS boolean
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    held record;
BEGIN
    PERFORM FROM __schema__.gate FOR UPDATE;
    SELECT e.leaf, e.lane, e.charged INTO held FROM __schema__.entries e
     WHERE e.__first__ = p_first AND e.__entry__ = p_entry AND e.attempt = p_attempt AND e.state = 'claimed'
       AND e.used_slot_seconds IS NULL
       AND (e.worker = p_worker OR (p_worker IS NULL AND e.lease_until <= clock_timestamp()))
       FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE __schema__.entries e SET state = 'queued', worker = NULL, lease_until = NULL, claimed_at = NULL,
           charged = 0
     WHERE e.__first__ = p_first AND e.__entry__ = p_entry;
    PERFORM __schema__.settle(held.leaf, held.lane, -held.charged, 1, -1);
    RETURN true;
END
$$;
