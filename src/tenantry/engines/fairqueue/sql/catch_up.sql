-- Brings the tree up to date without claiming; says how many entries it took in or removed (0: it is up to date).
CREATE FUNCTION __schema__.catch_up() RETURNS integer
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
AS $$
BEGIN
    PERFORM FROM __schema__.gate FOR UPDATE;
    RETURN __schema__.retire(1000) + __schema__.absorb();
END
$$;
