-- Says whether a node has as many entries running, over all lanes, as it may.
CREATE FUNCTION __schema__.is_full(p_node bigint) RETURNS boolean
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN coalesce((SELECT n.most_running
                         <= (SELECT coalesce(sum(f.running), 0) FROM __schema__.fronts f WHERE f.node = n.id)
                       FROM __schema__.nodes n WHERE n.id = p_node AND n.most_running IS NOT NULL), false);
END
$$;
