-- Takes changed shares into the tree and says how many (0: none is left). The gate must be held.
-- A share that says nothing special is no row: it goes, and its node is as one that never had any.
CREATE FUNCTION __schema__.weigh() RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
    nil CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    total integer := 0;
    part record;
    way bigint[];
    up bigint;
    next_key uuid;
BEGIN
    FOR part IN
        SELECT s.__first__ AS first, s.__second__ AS second, s.weight, s.most_running FROM __schema__.shares s
         WHERE s.changed ORDER BY s.__first__, s.__second__ LIMIT 100 FOR UPDATE SKIP LOCKED
    LOOP
        total := total + 1;
        way := '{}';
        up := 0;
        FOREACH next_key IN ARRAY array_remove(ARRAY[part.first, part.second], nil) LOOP
            INSERT INTO __schema__.nodes (parent, key, above) VALUES (up, next_key, way)
                ON CONFLICT (parent, key) DO NOTHING;
            SELECT n.id INTO STRICT up FROM __schema__.nodes n WHERE n.parent = up AND n.key = next_key;
            way := way || up;
        END LOOP;
        UPDATE __schema__.nodes n SET weight = part.weight, most_running = part.most_running WHERE n.id = up;
        PERFORM __schema__.hold(ARRAY[up]);
        IF part.weight = 1 AND part.most_running IS NULL THEN
            DELETE FROM __schema__.shares s WHERE s.__first__ = part.first AND s.__second__ = part.second;
        ELSE
            UPDATE __schema__.shares s SET changed = false
             WHERE s.__first__ = part.first AND s.__second__ = part.second;
        END IF;
    END LOOP;
    RETURN total;
END
$$;
