-- Sets the weight of the node that the keys lead to, first level first; makes the nodes on the way.
CREATE FUNCTION __schema__.set_weight(p_keys uuid[], p_weight double precision) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    way bigint[] := '{}';
    up bigint := 0;
BEGIN
    PERFORM FROM __schema__.gate FOR UPDATE;
    FOR depth IN 1..cardinality(p_keys) LOOP
        INSERT INTO __schema__.nodes (parent, key, above) VALUES (up, p_keys[depth], way)
            ON CONFLICT (parent, key) DO NOTHING;
        SELECT n.id INTO STRICT up FROM __schema__.nodes n WHERE n.parent = up AND n.key = p_keys[depth];
        way := way || up;
    END LOOP;
    UPDATE __schema__.nodes n SET weight = p_weight WHERE n.id = up;
END
$$;
