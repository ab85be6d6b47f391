-- One whole claim: gate, accounts, descent, lease. One statement is one transaction: a lost connection claims nothing.
CREATE FUNCTION __schema__.claim(
    p_worker uuid, p_free integer, p_capacity integer, p_labels text[], p_lease_seconds double precision
) RETURNS SETOF __schema__.entries
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    free integer := p_free;
    serves integer[];
    blocked bigint[] := '{}';
    dead_ends bigint[] := '{}';
    way bigint[];
    vts double precision[];
    next_node bigint;
    next_vt double precision;
    fresh integer;
    capped boolean;
    got __schema__.entries;
BEGIN
    PERFORM FROM __schema__.gate FOR UPDATE;
    IF EXISTS (SELECT FROM __schema__.entries e
                WHERE e.used_slot_seconds IS NOT NULL OR (e.cancel_requested AND e.state <> 'claimed')) THEN
        PERFORM __schema__.retire(500);
    END IF;
    IF EXISTS (SELECT FROM __schema__.shares s WHERE s.changed) THEN
        PERFORM __schema__.weigh();
    END IF;
    <<filling>> LOOP
        fresh := 0;
        IF EXISTS (SELECT FROM __schema__.entries e WHERE e.state = 'new') THEN
            fresh := __schema__.absorb();
        END IF;
        SELECT array_agg(l.id) INTO serves
          FROM __schema__.lanes l WHERE l.labels <@ p_labels AND l.slots <= p_capacity;
        WHILE free > 0 AND serves IS NOT NULL LOOP
            way := '{}';
            vts := '{}';
            FOR depth IN 1..3 LOOP
                -- What waits has at least `least_vt`: starting there skips the dead index entries of all earlier turns.
                IF depth = 1 THEN
                    SELECT f.node, f.vt INTO next_node, next_vt
                      FROM __schema__.lanes l
                      CROSS JOIN LATERAL (
                        SELECT c.node, c.vt FROM __schema__.fronts c
                         WHERE c.lane = l.id AND c.parent = 0 AND c.queued > c.shut AND NOT c.held
                           AND c.vt >= l.least_vt AND c.node <> ALL (blocked)
                         ORDER BY c.vt, c.node LIMIT 1
                      ) f WHERE l.id = ANY (serves) ORDER BY f.vt, f.node LIMIT 1;
                ELSE
                    SELECT f.node, f.vt INTO next_node, next_vt
                      FROM __schema__.fronts p
                      CROSS JOIN LATERAL (
                        SELECT c.node, c.vt FROM __schema__.fronts c
                         WHERE c.lane = p.lane AND c.parent = p.node AND c.queued > c.shut AND NOT c.held
                           AND c.vt >= p.least_vt AND c.node <> ALL (blocked)
                         ORDER BY c.vt, c.node LIMIT 1
                      ) f WHERE p.node = way[depth - 1] AND p.lane = ANY (serves) ORDER BY f.vt, f.node LIMIT 1;
                END IF;
                EXIT WHEN NOT FOUND;
                way := way || next_node;
                vts := vts || next_vt;
            END LOOP;
            EXIT WHEN cardinality(way) = 0;
            IF cardinality(way) < 3 THEN  -- all below it is blocked
                blocked := blocked || way[cardinality(way)];
                CONTINUE;
            END IF;
            SELECT (picked.e).* INTO got
              FROM unnest(serves) AS s (lane)
              CROSS JOIN LATERAL (
                SELECT e FROM __schema__.entries e
                 WHERE e.leaf = way[3] AND e.lane = s.lane AND e.state = 'queued' AND NOT e.cancel_requested
                   AND e.used_slot_seconds IS NULL
                 ORDER BY e.enqueued_at, e.__entry__ LIMIT 1 FOR UPDATE SKIP LOCKED
              ) picked ORDER BY (picked.e).enqueued_at, (picked.e).__entry__ LIMIT 1;
            IF NOT FOUND THEN
                CONTINUE WHEN __schema__.retire(200) > 0 OR __schema__.recount(way[3], serves) > 0;
                blocked := blocked || way[3];
                dead_ends := dead_ends || way[1];
                IF cardinality(array_positions(dead_ends, way[1])) > 16 THEN
                    blocked := blocked || way[1];  -- it locks its own rows: its harm, nobody else's
                END IF;
                CONTINUE;
            END IF;
            EXIT filling WHEN got.slots > free;  -- its turn: the room is kept until it fits
            UPDATE __schema__.entries x
               SET state = 'claimed', attempt = x.attempt + 1, worker = p_worker,
                   charged = x.estimate_seconds * x.slots, claimed_at = clock_timestamp(),
                   lease_until = clock_timestamp() + make_interval(secs => p_lease_seconds)
             WHERE x.__first__ = got.__first__ AND x.__entry__ = got.__entry__ RETURNING x.* INTO got;
            WITH charged AS (
                UPDATE __schema__.fronts f
                   SET vt = f.vt + got.charged / n.weight, touched_at = now(),
                       queued = CASE WHEN f.lane = got.lane THEN greatest(f.queued - 1, 0) ELSE f.queued END,
                       running = CASE WHEN f.lane = got.lane THEN f.running + 1 ELSE f.running END,
                       least_vt = CASE WHEN cardinality(blocked) = 0 AND f.lane = ANY (serves)
                                       THEN greatest(f.least_vt, w.vt) ELSE f.least_vt END
                  FROM unnest(way, vts[2:3]) AS w (node, vt) JOIN __schema__.nodes n ON n.id = w.node
                 WHERE f.node = w.node
                RETURNING n.most_running
            )
            SELECT bool_or(c.most_running IS NOT NULL) INTO capped FROM charged c;
            IF capped THEN
                PERFORM __schema__.hold(way[1:2]);
            END IF;
            -- What was passed over as locked is less than the pick, so nothing is raised above it.
            UPDATE __schema__.lanes l
               SET used_at = now(),
                   least_vt = CASE WHEN cardinality(blocked) = 0 THEN greatest(l.least_vt, vts[1]) ELSE l.least_vt END
             WHERE l.id = ANY (serves);
            free := free - got.slots;
            RETURN NEXT got;
        END LOOP;
        EXIT WHEN free <= 0 OR fresh = 0;
    END LOOP;
END
$$;
