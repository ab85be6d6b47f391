-- Brings the tree up to date without claiming; says how many entries and shares it took in or removed, and
-- counts it set right (0: it is up to date).
CREATE FUNCTION __schema__.catch_up() RETURNS integer
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    changes integer;
BEGIN
    PERFORM FROM __schema__.gate FOR UPDATE;
    changes := __schema__.retire(1000) + __schema__.weigh() + __schema__.absorb();
    RETURN changes + __schema__.recount_held();
END
$$;
