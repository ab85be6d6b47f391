-- The least virtual time kept for the children of a node (0: the root) in a lane: what begins to wait is lifted to it.
CREATE FUNCTION __schema__.least_above(p_parent bigint, p_lane integer) RETURNS double precision
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    IF p_parent = 0 THEN
        RETURN (SELECT l.least_vt FROM __schema__.lanes l WHERE l.id = p_lane);
    END IF;
    RETURN (SELECT f.least_vt FROM __schema__.fronts f WHERE f.node = p_parent AND f.lane = p_lane);
END
$$;
