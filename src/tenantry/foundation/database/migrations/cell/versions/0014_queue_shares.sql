-- Frozen for revision 0014: the shares and all functions, as engines/fairqueue says them. A line of dashes and two semicolons
-- parts the statements.

CREATE TABLE queue.shares (
    tenant_id uuid NOT NULL CHECK (tenant_id <> '00000000-0000-0000-0000-000000000000'),
    workspace_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    weight double precision NOT NULL DEFAULT 1 CHECK (weight > 0 AND weight <= 1e6),
    most_running integer CHECK (most_running >= 0),
    changed boolean NOT NULL DEFAULT true,
    PRIMARY KEY (tenant_id, workspace_id)
)

-- ;;

CREATE INDEX shares_changed ON queue.shares (tenant_id, workspace_id) WHERE changed

-- ;;

-- Says whether a node has as many entries running, over all lanes, as it may.
CREATE FUNCTION queue.is_full(p_node bigint) RETURNS boolean
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN coalesce((SELECT n.most_running
                         <= (SELECT coalesce(sum(f.running), 0) FROM queue.fronts f WHERE f.node = n.id)
                       FROM queue.nodes n WHERE n.id = p_node AND n.most_running IS NOT NULL), false);
END
$$

-- ;;

REVOKE ALL ON FUNCTION queue.is_full(bigint) FROM PUBLIC

-- ;;

-- The least virtual time kept for the children of a node (0: the root) in a lane: what begins to wait is lifted to it.
CREATE FUNCTION queue.least_above(p_parent bigint, p_lane integer) RETURNS double precision
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    IF p_parent = 0 THEN
        RETURN (SELECT l.least_vt FROM queue.lanes l WHERE l.id = p_lane);
    END IF;
    RETURN (SELECT f.least_vt FROM queue.fronts f WHERE f.node = p_parent AND f.lane = p_lane);
END
$$

-- ;;

REVOKE ALL ON FUNCTION queue.least_above(bigint, integer) FROM PUBLIC

-- ;;

-- Hides from descents which of the nodes are at their cap, and shows those that no longer are. The gate must be held.
-- `held` is a node's own; `shut` counts what a first-level node has below held ones, so it is hidden, too, where that
-- is all. What is shown again is lifted as one that wakes: being held saves up no credit.
CREATE FUNCTION queue.hold(p_nodes bigint[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    part record;
BEGIN
    FOR part IN
        SELECT n.id, x.is_full FROM unnest(p_nodes) AS n (id) CROSS JOIN LATERAL queue.is_full(n.id) AS x (is_full)
         WHERE EXISTS (SELECT FROM queue.fronts f WHERE f.node = n.id AND f.held <> x.is_full)
    LOOP
        UPDATE queue.fronts f
           SET held = part.is_full,
               vt = CASE WHEN part.is_full THEN f.vt ELSE greatest(f.vt, queue.least_above(f.parent, f.lane)) END
         WHERE f.node = part.id;
        UPDATE queue.fronts p
           SET shut = p.shut + CASE WHEN part.is_full THEN c.queued ELSE -c.queued END,
               vt = CASE WHEN part.is_full OR p.queued > p.shut THEN p.vt
                         ELSE greatest(p.vt, queue.least_above(p.parent, p.lane)) END
          FROM queue.fronts c
         WHERE c.node = part.id AND c.queued > 0 AND p.node = c.parent AND p.lane = c.lane;
    END LOOP;
END
$$

-- ;;

REVOKE ALL ON FUNCTION queue.hold(bigint[]) FROM PUBLIC

-- ;;

-- Adds to the accounts of a leaf and of all above it. The gate must be held.
-- The cost counts in every lane of a node: what it used elsewhere is still its use. A refund may put a node below the
-- least virtual time kept above it, which is then lowered: no waiting node may be less than that. One that only now
-- begins to wait is lifted to it instead, as whenever one wakes.
CREATE FUNCTION queue.settle(
    p_leaf bigint, p_lane integer, p_cost double precision, p_queued integer, p_running integer
) RETURNS void LANGUAGE plpgsql
AS $$
DECLARE
    way bigint[];
    below_held boolean;
    capped boolean;
BEGIN
    SELECT n.above || n.id INTO way FROM queue.nodes n WHERE n.id = p_leaf;
    SELECT f.held INTO below_held FROM queue.fronts f WHERE f.node = way[2] AND f.lane = p_lane;
    WITH settled AS (
        UPDATE queue.fronts f
           SET vt = f.vt + p_cost / n.weight,
               queued = CASE WHEN f.lane = p_lane THEN greatest(f.queued + p_queued, 0) ELSE f.queued END,
               running = CASE WHEN f.lane = p_lane THEN greatest(f.running + p_running, 0) ELSE f.running END,
               shut = CASE WHEN f.lane = p_lane AND f.node = way[1] AND below_held
                           THEN greatest(f.shut + p_queued, 0) ELSE f.shut END,
               touched_at = now()
          FROM queue.nodes n
         WHERE f.node = ANY (way) AND n.id = f.node
        RETURNING n.most_running
    )
    SELECT bool_or(s.most_running IS NOT NULL) INTO capped FROM settled s;
    IF p_queued > 0 THEN
        UPDATE queue.fronts f SET vt = greatest(f.vt, queue.least_above(f.parent, f.lane))
         WHERE f.node = ANY (way) AND f.lane = p_lane AND f.queued - p_queued <= f.shut;
    END IF;
    IF p_cost < 0 THEN  -- OFFSET 0: by the nodes, never through the whole index of what waits
        UPDATE queue.fronts f SET least_vt = c.vt
          FROM (SELECT o.parent, o.lane, o.vt, o.queued > o.shut AND NOT o.held AS waits
                  FROM queue.fronts o WHERE o.node = ANY (way) OFFSET 0) c
         WHERE c.waits AND f.node = c.parent AND f.lane = c.lane AND f.least_vt > c.vt;
        UPDATE queue.lanes l SET least_vt = c.vt
          FROM (SELECT o.lane, o.vt, o.queued > o.shut AND NOT o.held AS waits
                  FROM queue.fronts o WHERE o.node = way[1] OFFSET 0) c
         WHERE c.waits AND l.id = c.lane AND l.least_vt > c.vt;
    END IF;
    IF capped AND p_running <> 0 THEN
        PERFORM queue.hold(way[1:2]);
    END IF;
END
$$

-- ;;

REVOKE ALL ON FUNCTION queue.settle(bigint, integer, double precision, integer, integer) FROM PUBLIC

-- ;;

-- Deletes finished and cancelled entries and corrects the accounts by what was really used. The gate must be held.
-- Rows somebody else has locked are left for the next time: nobody can make the gate wait. They are found again by their
-- place, which needs no figures of the table: one that was empty when they were taken may hold a flood by now.
CREATE FUNCTION queue.retire(p_limit integer) RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
    total integer := 0;
    part record;
BEGIN
    FOR part IN
        WITH ended AS (
            SELECT e.ctid AS place FROM queue.entries e
             WHERE e.used_slot_seconds IS NOT NULL OR (e.cancel_requested AND e.state <> 'claimed')
             ORDER BY e.enqueued_at LIMIT p_limit FOR UPDATE SKIP LOCKED
        ), gone AS (
            DELETE FROM queue.entries e USING ended d
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
            PERFORM queue.settle(part.leaf, part.lane, part.owed, -part.queued, -part.running);
        END IF;
    END LOOP;
    RETURN total;
END
$$

-- ;;

REVOKE ALL ON FUNCTION queue.retire(integer) FROM PUBLIC

-- ;;

-- Takes new entries into the tree and says how many (0: none is left). The gate must be held.
-- It goes round the first-level keys, 400 entries of 20 of them a time, so that a flood of one cannot delay another's.
CREATE FUNCTION queue.absorb() RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
    nil CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    start uuid;
    reached uuid;
    wrapped boolean;
    batch queue.entries[];
    leaves bigint[];
    leaf_lanes integer[];
    counts integer[];
    full_nodes bigint[];
BEGIN
    IF NOT EXISTS (SELECT FROM queue.entries e WHERE e.state = 'new') THEN
        RETURN 0;
    END IF;
    SELECT g.absorbed_up_to, g.absorbed_up_to = nil INTO start, wrapped FROM queue.gate g;
    LOOP
        WITH RECURSIVE firsts AS (
            (SELECT e.tenant_id AS first FROM queue.entries e
              WHERE e.state = 'new' AND e.tenant_id > start ORDER BY e.tenant_id LIMIT 1)
            UNION ALL
            SELECT (SELECT e.tenant_id FROM queue.entries e
                     WHERE e.state = 'new' AND e.tenant_id > f.first ORDER BY e.tenant_id LIMIT 1)
              FROM firsts f WHERE f.first IS NOT NULL
        ), turn AS MATERIALIZED (SELECT f.first FROM firsts f WHERE f.first IS NOT NULL LIMIT 20)
        SELECT array_agg(picked.e) FILTER (WHERE (picked.e).state IS NOT NULL),
               (array_agg(turn.first ORDER BY turn.first DESC))[1]
          INTO batch, reached
          FROM turn
          LEFT JOIN LATERAL (
            SELECT e FROM queue.entries e WHERE e.state = 'new' AND e.tenant_id = turn.first
             ORDER BY e.enqueued_at, e.job_id LIMIT (SELECT 400 / count(*) FROM turn) FOR UPDATE SKIP LOCKED
          ) picked ON true;
        EXIT WHEN batch IS NOT NULL;
        IF reached IS NOT NULL THEN  -- all locked by their owners
            start := reached;
        ELSIF wrapped THEN
            RETURN 0;
        ELSE
            start := nil;
            wrapped := true;
        END IF;
    END LOOP;
    UPDATE queue.gate SET absorbed_up_to = reached;

    INSERT INTO queue.lanes (labels, slots, least_vt)
        SELECT DISTINCT b.labels, b.slots, (SELECT coalesce(max(l.least_vt), 0) FROM queue.lanes l)
          FROM unnest(batch) b
         WHERE NOT EXISTS (SELECT FROM queue.lanes l WHERE l.labels = b.labels AND l.slots = b.slots);
    -- OFFSET 0 keeps each look-up one probe of the index, whatever the planner thinks of a table it has no figures of.
    INSERT INTO queue.nodes (parent, key, above)
        SELECT DISTINCT 0, b.tenant_id, '{}'::bigint[] FROM unnest(batch) b
         WHERE NOT EXISTS (SELECT FROM queue.nodes n WHERE n.parent = 0 AND n.key = b.tenant_id OFFSET 0);
    INSERT INTO queue.nodes (parent, key, above)
        SELECT DISTINCT a.id, b.workspace_id, a.above || a.id FROM unnest(batch) b
          CROSS JOIN LATERAL (
            SELECT n.id, n.above FROM queue.nodes n WHERE n.parent = 0 AND n.key = b.tenant_id OFFSET 0) a
         WHERE NOT EXISTS (SELECT FROM queue.nodes n WHERE n.parent = a.id AND n.key = b.workspace_id OFFSET 0);
    INSERT INTO queue.nodes (parent, key, above)
        SELECT DISTINCT w.id, b.principal_id, w.above || w.id FROM unnest(batch) b
          CROSS JOIN LATERAL (SELECT n.id FROM queue.nodes n WHERE n.parent = 0 AND n.key = b.tenant_id OFFSET 0) a
          CROSS JOIN LATERAL (
            SELECT n.id, n.above FROM queue.nodes n WHERE n.parent = a.id AND n.key = b.workspace_id OFFSET 0) w
         WHERE NOT EXISTS (SELECT FROM queue.nodes n WHERE n.parent = w.id AND n.key = b.principal_id OFFSET 0);

    WITH placed AS (
        UPDATE queue.entries e SET state = 'queued', leaf = p.id, lane = l.id
          FROM unnest(batch) b
          CROSS JOIN LATERAL (
            SELECT l.id FROM queue.lanes l WHERE l.labels = b.labels AND l.slots = b.slots OFFSET 0) l
          CROSS JOIN LATERAL (SELECT n.id FROM queue.nodes n WHERE n.parent = 0 AND n.key = b.tenant_id OFFSET 0) a
          CROSS JOIN LATERAL (
            SELECT n.id FROM queue.nodes n WHERE n.parent = a.id AND n.key = b.workspace_id OFFSET 0) w
          CROSS JOIN LATERAL (
            SELECT n.id FROM queue.nodes n WHERE n.parent = w.id AND n.key = b.principal_id OFFSET 0) p
          CROSS JOIN LATERAL (
            SELECT o.ctid AS place FROM queue.entries o
             WHERE o.tenant_id = b.tenant_id AND o.job_id = b.job_id OFFSET 0) locked
         WHERE e.ctid = locked.place
        RETURNING e.leaf, e.lane
    ), grouped AS (SELECT p.leaf, p.lane, count(*)::integer AS n FROM placed p GROUP BY p.leaf, p.lane)
    SELECT array_agg(g.leaf), array_agg(g.lane), array_agg(g.n) INTO leaves, leaf_lanes, counts FROM grouped g;

    SELECT coalesce(array_agg(up.id), '{}') INTO full_nodes
      FROM (SELECT DISTINCT unnest(leaf.above) AS id FROM unnest(leaves) g (leaf)
             CROSS JOIN LATERAL (SELECT n.above FROM queue.nodes n WHERE n.id = g.leaf OFFSET 0) leaf) up
      CROSS JOIN LATERAL (SELECT n.most_running FROM queue.nodes n WHERE n.id = up.id OFFSET 0) own
     WHERE own.most_running IS NOT NULL AND queue.is_full(up.id);

    -- From the root down, because a row that wakes is lifted to the least virtual time its parent keeps for the lane.
    FOR depth IN 1..3 LOOP
        INSERT INTO queue.fronts AS f (node, lane, parent, vt, least_vt, queued, held, shut)
            SELECT n.id, fresh.lane, n.parent,
                   greatest(coalesce(known.vt, 0), CASE depth WHEN 1 THEN l.least_vt ELSE up.least_vt END),
                   coalesce(known.least_vt, 0), fresh.queued, n.id = ANY (full_nodes), fresh.shut
              FROM (SELECT (leaf.above || leaf.id)[depth] AS node, g.lane, sum(g.n)::integer AS queued,
                           (coalesce(sum(g.n) FILTER (WHERE depth = 1 AND leaf.above[2] = ANY (full_nodes)), 0)
                           )::integer AS shut
                      FROM unnest(leaves, leaf_lanes, counts) g (leaf, lane, n)
                      JOIN queue.nodes leaf ON leaf.id = g.leaf
                     GROUP BY 1, 2) fresh
              JOIN queue.nodes n ON n.id = fresh.node
              JOIN queue.lanes l ON l.id = fresh.lane
              LEFT JOIN queue.fronts up ON up.node = n.parent AND up.lane = fresh.lane
              CROSS JOIN LATERAL (SELECT min(o.vt) AS vt, max(o.least_vt) AS least_vt
                                    FROM queue.fronts o WHERE o.node = n.id) known
        ON CONFLICT (node, lane) DO UPDATE
            SET queued = f.queued + excluded.queued, shut = f.shut + excluded.shut, touched_at = now(),
                vt = CASE WHEN f.queued <= f.shut OR f.held THEN greatest(f.vt, excluded.vt) ELSE f.vt END;
    END LOOP;
    RETURN cardinality(batch);
END
$$

-- ;;

REVOKE ALL ON FUNCTION queue.absorb() FROM PUBLIC

-- ;;

-- Rows that vanished without the queue's help (an erased key) leave a count too high: sets it right where a descent
-- met it and says by how much. The gate must be held.
CREATE FUNCTION queue.recount(p_leaf bigint, p_lanes integer[]) RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
    total integer := 0;
    part record;
BEGIN
    FOR part IN
        SELECT f.lane, f.queued
             - (SELECT count(*) FROM queue.entries e
                 WHERE e.leaf = p_leaf AND e.lane = f.lane AND e.state = 'queued' AND NOT e.cancel_requested)::integer
             - (SELECT count(*) FROM queue.entries e
                 WHERE e.leaf = p_leaf AND e.lane = f.lane AND e.state = 'queued' AND e.cancel_requested
                   AND (e.used_slot_seconds IS NOT NULL OR (e.cancel_requested AND e.state <> 'claimed')))::integer
               AS excess
          FROM queue.fronts f WHERE f.node = p_leaf AND f.lane = ANY (p_lanes) AND f.queued > 0
    LOOP
        IF part.excess > 0 THEN
            total := total + part.excess;
            PERFORM queue.settle(p_leaf, part.lane, 0, -part.excess, 0);
        END IF;
    END LOOP;
    RETURN total;
END
$$

-- ;;

REVOKE ALL ON FUNCTION queue.recount(bigint, integer[]) FROM PUBLIC

-- ;;

-- Claims that vanished without the queue's help (an erased key) would hold a node for ever: every few seconds counts
-- what is claimed at all, once, and sets right what is held wrongly. Says how many counts. The gate must be held.
CREATE FUNCTION queue.recount_held() RETURNS integer
LANGUAGE plpgsql SET enable_hashjoin = on
AS $$
DECLARE
    total integer := 0;
    part record;
BEGIN
    IF NOT EXISTS (SELECT FROM queue.fronts f WHERE f.held) THEN
        RETURN 0;
    END IF;
    UPDATE queue.gate g SET recounted_at = now() WHERE g.recounted_at < now() - interval '5 s';
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    FOR part IN
        WITH claimed AS MATERIALIZED (
            SELECT e.leaf, e.lane, count(*) AS entries FROM queue.entries e WHERE e.state = 'claimed' GROUP BY 1, 2
        ), below AS MATERIALIZED (
            SELECT up.node, sum(c.entries) AS entries
              FROM claimed c JOIN queue.nodes n ON n.id = c.leaf CROSS JOIN unnest(n.above) AS up (node) GROUP BY 1
        ), held AS MATERIALIZED (
            SELECT f.node, sum(f.running) AS running FROM queue.fronts f WHERE f.held GROUP BY 1
        ), wrong AS (
            SELECT h.node FROM held h LEFT JOIN below b ON b.node = h.node WHERE h.running > coalesce(b.entries, 0)
        ), leaves AS (  -- of a second-level node, and of a first-level one
            SELECT n.id FROM wrong w JOIN queue.nodes n ON n.parent = w.node AND cardinality(n.above) = 2
            UNION
            SELECT n.id FROM wrong w JOIN queue.nodes m ON m.parent = w.node AND cardinality(m.above) = 1
              JOIN queue.nodes n ON n.parent = m.id
        )
        SELECT f.node, f.lane, (f.running - coalesce(c.entries, 0))::integer AS excess
          FROM leaves l JOIN queue.fronts f ON f.node = l.id
          LEFT JOIN claimed c ON c.leaf = f.node AND c.lane = f.lane
         WHERE f.running > coalesce(c.entries, 0)
    LOOP
        total := total + 1;
        PERFORM queue.settle(part.node, part.lane, 0, 0, -part.excess);
    END LOOP;
    RETURN total;
END
$$

-- ;;

REVOKE ALL ON FUNCTION queue.recount_held() FROM PUBLIC

-- ;;

-- Takes changed shares into the tree and says how many (0: none is left). The gate must be held.
-- A share that says nothing special is no row: it goes, and its node is as one that never had any.
CREATE FUNCTION queue.weigh() RETURNS integer
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
        SELECT s.tenant_id AS first, s.workspace_id AS second, s.weight, s.most_running FROM queue.shares s
         WHERE s.changed ORDER BY s.tenant_id, s.workspace_id LIMIT 100 FOR UPDATE SKIP LOCKED
    LOOP
        total := total + 1;
        way := '{}';
        up := 0;
        FOREACH next_key IN ARRAY array_remove(ARRAY[part.first, part.second], nil) LOOP
            INSERT INTO queue.nodes (parent, key, above) VALUES (up, next_key, way)
                ON CONFLICT (parent, key) DO NOTHING;
            SELECT n.id INTO STRICT up FROM queue.nodes n WHERE n.parent = up AND n.key = next_key;
            way := way || up;
        END LOOP;
        UPDATE queue.nodes n SET weight = part.weight, most_running = part.most_running WHERE n.id = up;
        PERFORM queue.hold(ARRAY[up]);
        IF part.weight = 1 AND part.most_running IS NULL THEN
            DELETE FROM queue.shares s WHERE s.tenant_id = part.first AND s.workspace_id = part.second;
        ELSE
            UPDATE queue.shares s SET changed = false
             WHERE s.tenant_id = part.first AND s.workspace_id = part.second;
        END IF;
    END LOOP;
    RETURN total;
END
$$

-- ;;

REVOKE ALL ON FUNCTION queue.weigh() FROM PUBLIC

-- ;;

-- One whole claim: gate, accounts, descent, lease. One statement is one transaction: a lost connection claims nothing.
CREATE FUNCTION queue.claim(
    p_worker uuid, p_free integer, p_capacity integer, p_labels text[], p_lease_seconds double precision
) RETURNS SETOF queue.entries
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
    got queue.entries;
BEGIN
    PERFORM FROM queue.gate FOR UPDATE;
    IF EXISTS (SELECT FROM queue.entries e
                WHERE e.used_slot_seconds IS NOT NULL OR (e.cancel_requested AND e.state <> 'claimed')) THEN
        PERFORM queue.retire(500);
    END IF;
    IF EXISTS (SELECT FROM queue.shares s WHERE s.changed) THEN
        PERFORM queue.weigh();
    END IF;
    <<filling>> LOOP
        fresh := 0;
        IF EXISTS (SELECT FROM queue.entries e WHERE e.state = 'new') THEN
            fresh := queue.absorb();
        END IF;
        SELECT array_agg(l.id) INTO serves
          FROM queue.lanes l WHERE l.labels <@ p_labels AND l.slots <= p_capacity;
        WHILE free > 0 AND serves IS NOT NULL LOOP
            way := '{}';
            vts := '{}';
            FOR depth IN 1..3 LOOP
                -- What waits has at least `least_vt`: starting there skips the dead index entries of all earlier turns.
                IF depth = 1 THEN
                    SELECT f.node, f.vt INTO next_node, next_vt
                      FROM queue.lanes l
                      CROSS JOIN LATERAL (
                        SELECT c.node, c.vt FROM queue.fronts c
                         WHERE c.lane = l.id AND c.parent = 0 AND c.queued > c.shut AND NOT c.held
                           AND c.vt >= l.least_vt AND c.node <> ALL (blocked)
                         ORDER BY c.vt, c.node LIMIT 1
                      ) f WHERE l.id = ANY (serves) ORDER BY f.vt, f.node LIMIT 1;
                ELSE
                    SELECT f.node, f.vt INTO next_node, next_vt
                      FROM queue.fronts p
                      CROSS JOIN LATERAL (
                        SELECT c.node, c.vt FROM queue.fronts c
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
                SELECT e FROM queue.entries e
                 WHERE e.leaf = way[3] AND e.lane = s.lane AND e.state = 'queued' AND NOT e.cancel_requested
                   AND e.used_slot_seconds IS NULL
                 ORDER BY e.enqueued_at, e.job_id LIMIT 1 FOR UPDATE SKIP LOCKED
              ) picked ORDER BY (picked.e).enqueued_at, (picked.e).job_id LIMIT 1;
            IF NOT FOUND THEN
                CONTINUE WHEN queue.retire(200) > 0 OR queue.recount(way[3], serves) > 0;
                blocked := blocked || way[3];
                dead_ends := dead_ends || way[1];
                IF cardinality(array_positions(dead_ends, way[1])) > 16 THEN
                    blocked := blocked || way[1];  -- it locks its own rows: its harm, nobody else's
                END IF;
                CONTINUE;
            END IF;
            EXIT filling WHEN got.slots > free;  -- its turn: the room is kept until it fits
            UPDATE queue.entries x
               SET state = 'claimed', attempt = x.attempt + 1, worker = p_worker,
                   charged = x.estimate_seconds * x.slots, claimed_at = clock_timestamp(),
                   lease_until = clock_timestamp() + make_interval(secs => p_lease_seconds)
             WHERE x.tenant_id = got.tenant_id AND x.job_id = got.job_id RETURNING x.* INTO got;
            WITH charged AS (
                UPDATE queue.fronts f
                   SET vt = f.vt + got.charged / n.weight, touched_at = now(),
                       queued = CASE WHEN f.lane = got.lane THEN greatest(f.queued - 1, 0) ELSE f.queued END,
                       running = CASE WHEN f.lane = got.lane THEN f.running + 1 ELSE f.running END,
                       least_vt = CASE WHEN cardinality(blocked) = 0 AND f.lane = ANY (serves)
                                       THEN greatest(f.least_vt, w.vt) ELSE f.least_vt END
                  FROM unnest(way, vts[2:3]) AS w (node, vt) JOIN queue.nodes n ON n.id = w.node
                 WHERE f.node = w.node
                RETURNING n.most_running
            )
            SELECT bool_or(c.most_running IS NOT NULL) INTO capped FROM charged c;
            IF capped THEN
                PERFORM queue.hold(way[1:2]);
            END IF;
            -- What was passed over as locked is less than the pick, so nothing is raised above it.
            UPDATE queue.lanes l
               SET used_at = now(),
                   least_vt = CASE WHEN cardinality(blocked) = 0 THEN greatest(l.least_vt, vts[1]) ELSE l.least_vt END
             WHERE l.id = ANY (serves);
            free := free - got.slots;
            RETURN NEXT got;
        END LOOP;
        EXIT WHEN free <= 0 OR fresh = 0;
    END LOOP;
END
$$

-- ;;

REVOKE ALL ON FUNCTION queue.claim(uuid, integer, integer, text[], double precision) FROM PUBLIC

-- ;;

-- Puts a claim back into the queue and refunds its charge; p_worker NULL means a lapsed one, whosever it was.
-- False: the claim is another's by now, or somebody is just changing the row (try again).
CREATE FUNCTION queue.give_back(p_first uuid, p_entry uuid, p_attempt integer, p_worker uuid) RETURNS boolean
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    held record;
BEGIN
    PERFORM FROM queue.gate FOR UPDATE;
    SELECT e.leaf, e.lane, e.charged INTO held FROM queue.entries e
     WHERE e.tenant_id = p_first AND e.job_id = p_entry AND e.attempt = p_attempt AND e.state = 'claimed'
       AND e.used_slot_seconds IS NULL
       AND (e.worker = p_worker OR (p_worker IS NULL AND e.lease_until <= clock_timestamp()))
       FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE queue.entries e SET state = 'queued', worker = NULL, lease_until = NULL, claimed_at = NULL,
           charged = 0
     WHERE e.tenant_id = p_first AND e.job_id = p_entry;
    PERFORM queue.settle(held.leaf, held.lane, -held.charged, 1, -1);
    RETURN true;
END
$$

-- ;;

REVOKE ALL ON FUNCTION queue.give_back(uuid, uuid, integer, uuid) FROM PUBLIC

-- ;;

-- Brings the tree up to date without claiming; says how many entries and shares it took in or removed, and
-- counts it set right (0: it is up to date).
CREATE FUNCTION queue.catch_up() RETURNS integer
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    changes integer;
BEGIN
    PERFORM FROM queue.gate FOR UPDATE;
    changes := queue.retire(1000) + queue.weigh() + queue.absorb();
    RETURN changes + queue.recount_held();
END
$$

-- ;;

REVOKE ALL ON FUNCTION queue.catch_up() FROM PUBLIC

-- ;;

-- Forgets what has been idle for so long, looking at p_limit nodes from where it stopped last; says how many went.
-- A node stays while its keys have a share; one whose share was deleted with its keys' rows has none any more, and a
-- leaf that nothing claimed belongs to has nothing running. What a forgotten node owed is forgiven.
CREATE FUNCTION queue.collect(p_idle_seconds double precision, p_limit integer) RETURNS integer
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    nil CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    since CONSTANT timestamptz := now() - make_interval(secs => p_idle_seconds);
    seen bigint[];
    gone bigint[];
    idle_lanes integer[];
BEGIN
    PERFORM FROM queue.gate FOR UPDATE;
    SELECT array_agg(s.id) INTO seen FROM (
        SELECT n.id FROM queue.nodes n JOIN queue.gate g ON n.id > g.collected_up_to
         ORDER BY n.id LIMIT p_limit
    ) s;
    WITH plain AS (
        UPDATE queue.nodes n SET weight = 1, most_running = NULL
         WHERE n.id = ANY (seen) AND (n.weight <> 1 OR n.most_running IS NOT NULL)
           AND NOT EXISTS (SELECT FROM queue.shares s
                            WHERE n.parent = 0 AND s.tenant_id = n.key AND s.workspace_id = nil)
           AND NOT EXISTS (SELECT FROM queue.nodes a JOIN queue.shares s ON s.tenant_id = a.key
                            WHERE a.id = n.parent AND a.parent = 0 AND s.workspace_id = n.key)
        RETURNING n.id
    )
    SELECT array_agg(p.id) INTO gone FROM plain p;
    PERFORM queue.hold(gone);
    PERFORM queue.settle(f.node, f.lane, 0, 0, -f.running)
       FROM queue.fronts f JOIN queue.nodes n ON n.id = f.node
      WHERE f.node = ANY (seen) AND f.running > 0 AND cardinality(n.above) = 2 AND f.touched_at <= since
        AND NOT EXISTS (SELECT FROM queue.entries e WHERE e.state = 'claimed' AND e.leaf = n.id);
    WITH deleted AS (
        DELETE FROM queue.nodes n
         WHERE n.id = ANY (seen) AND n.weight = 1 AND n.most_running IS NULL
           AND NOT EXISTS (SELECT FROM queue.nodes c WHERE c.parent = n.id)
           AND NOT EXISTS (SELECT FROM queue.fronts f
                            WHERE f.node = n.id AND (f.queued > 0 OR f.touched_at > since))
           AND NOT EXISTS (SELECT FROM queue.entries e WHERE e.state = 'claimed' AND e.leaf = n.id)
        RETURNING n.id
    )
    SELECT array_agg(d.id) INTO gone FROM deleted d;
    DELETE FROM queue.fronts f WHERE f.node = ANY (gone);
    IF coalesce(cardinality(seen), 0) = p_limit THEN
        UPDATE queue.gate SET collected_up_to = seen[p_limit];
        RETURN coalesce(cardinality(gone), 0);
    END IF;
    UPDATE queue.gate SET collected_up_to = 0;  -- one round is over
    SELECT array_agg(l.id) INTO idle_lanes FROM queue.lanes l
     WHERE l.used_at <= since
       AND NOT EXISTS (SELECT FROM queue.fronts f WHERE f.lane = l.id AND f.parent = 0 AND f.queued > f.shut AND NOT f.held)
       AND NOT EXISTS (SELECT FROM queue.fronts h WHERE h.held AND h.lane = l.id AND h.queued > 0)
       AND NOT EXISTS (SELECT FROM queue.entries e WHERE e.state = 'claimed' AND e.lane = l.id);
    IF idle_lanes IS NOT NULL THEN
        DELETE FROM queue.fronts f WHERE f.lane = ANY (idle_lanes);
        DELETE FROM queue.lanes l WHERE l.id = ANY (idle_lanes);
    END IF;
    DELETE FROM queue.workers w WHERE w.heartbeat_at <= since
        AND NOT EXISTS (SELECT FROM queue.entries e WHERE e.state = 'claimed' AND e.worker = w.worker);
    RETURN coalesce(cardinality(gone), 0);
END
$$

-- ;;

REVOKE ALL ON FUNCTION queue.collect(double precision, integer) FROM PUBLIC

-- ;;

-- Estimates how many entries start before this one: at each level a sibling goes first with what it may still use until
-- it reaches our virtual time, taking its entries to cost what ours does. What is held back goes before nobody.
CREATE FUNCTION queue.standing(p_first uuid, p_entry uuid, p_alive_seconds double precision)
RETURNS TABLE (
    now_state text, ahead_own bigint, ahead_all bigint, able_workers integer, able_slots bigint, slots_in_use bigint,
    held_level integer, held_most_running integer, held_running bigint, starts_in_seconds double precision
)
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    ours queue.entries;
    able uuid[];
    way bigint[];
    cost double precision;
    ahead_cost double precision;  -- in slot-seconds
    ahead_below bigint[];
    start double precision;
    left_seconds double precision;
BEGIN
    SELECT e.* INTO ours FROM queue.entries e
     WHERE e.tenant_id = p_first AND e.job_id = p_entry AND e.used_slot_seconds IS NULL
       AND NOT (e.cancel_requested AND e.state <> 'claimed');
    IF NOT FOUND THEN
        RETURN;
    END IF;
    now_state := ours.state;
    SELECT array_agg(w.worker), count(*), coalesce(sum(w.slots), 0) INTO able, able_workers, able_slots
      FROM queue.workers w
     WHERE ours.labels <@ w.labels AND ours.slots <= w.slots
       AND w.heartbeat_at > clock_timestamp() - make_interval(secs => p_alive_seconds);
    SELECT coalesce(sum(e.slots), 0), avg(greatest(0, e.estimate_seconds - extract(epoch FROM clock_timestamp() - e.claimed_at)))
      INTO slots_in_use, left_seconds
      FROM queue.entries e
     WHERE e.state = 'claimed' AND e.worker = ANY (able) AND e.used_slot_seconds IS NULL;
    IF ours.state = 'claimed' THEN
        RETURN NEXT;
        RETURN;
    END IF;
    SELECT ARRAY[a.id, b.id] INTO way
      FROM queue.nodes a LEFT JOIN queue.nodes b ON b.parent = a.id AND b.key = ours.workspace_id
     WHERE a.parent = 0 AND a.key = ours.tenant_id;
    SELECT u.level, n.most_running, (SELECT coalesce(sum(f.running), 0) FROM queue.fronts f WHERE f.node = n.id)
      INTO held_level, held_most_running, held_running
      FROM unnest(way) WITH ORDINALITY AS u (id, level) JOIN queue.nodes n ON n.id = u.id
     WHERE queue.is_full(n.id) ORDER BY u.level LIMIT 1;
    IF ours.state <> 'queued' THEN
        RETURN NEXT;
        RETURN;
    END IF;
    cost := ours.estimate_seconds * ours.slots;
    SELECT count(*), coalesce(sum(e.estimate_seconds * e.slots), 0) INTO ahead_all, ahead_cost
      FROM queue.entries e
     WHERE e.leaf = ours.leaf AND e.lane = ours.lane AND e.state = 'queued' AND NOT e.cancel_requested
       AND (e.enqueued_at, e.job_id) < (ours.enqueued_at, ours.job_id);
    SELECT n.above || n.id INTO way FROM queue.nodes n WHERE n.id = ours.leaf;
    FOR depth IN REVERSE 3..1 LOOP
        ahead_own := ahead_all;
        ahead_below[depth] := ahead_all;
        SELECT f.vt + ahead_cost / n.weight INTO start
          FROM queue.fronts f JOIN queue.nodes n ON n.id = f.node
         WHERE f.node = way[depth] AND f.lane = ours.lane;
        SELECT ahead_all + coalesce(sum(least(f.queued - f.shut, ceil((start - f.vt) * n.weight / cost))), 0)::bigint,
               ahead_cost + coalesce(sum(least((f.queued - f.shut) * cost, (start - f.vt) * n.weight)), 0)
          INTO ahead_all, ahead_cost
          FROM queue.fronts f JOIN queue.nodes n ON n.id = f.node
         WHERE f.lane = ours.lane AND f.parent = coalesce(way[depth - 1], 0) AND f.queued > f.shut AND NOT f.held
           AND f.vt < start AND f.node <> way[depth];
    END LOOP;
    IF able_slots > 0 THEN
        starts_in_seconds := CASE
            WHEN slots_in_use + (ahead_all + 1) * ours.slots <= able_slots THEN 0
            WHEN slots_in_use + ours.slots <= able_slots THEN ahead_cost / able_slots
            ELSE ahead_cost / able_slots + coalesce(left_seconds, 0) END;
    END IF;
    IF held_most_running = 0 THEN
        starts_in_seconds := NULL;
    ELSIF held_level IS NOT NULL AND able_slots > 0 THEN  -- whichever is later: its turn of all, or of its own level
        SELECT avg(greatest(0, e.estimate_seconds - extract(epoch FROM clock_timestamp() - e.claimed_at)))
          INTO left_seconds
          FROM queue.entries e JOIN queue.nodes n ON n.id = e.leaf
         WHERE e.state = 'claimed' AND e.used_slot_seconds IS NULL AND n.above[held_level] = way[held_level];
        starts_in_seconds := greatest(
            starts_in_seconds,
            coalesce(left_seconds, 0) + ahead_below[held_level] * ours.estimate_seconds / held_most_running
        );
    END IF;
    RETURN NEXT;
END
$$

-- ;;

REVOKE ALL ON FUNCTION queue.standing(uuid, uuid, double precision) FROM PUBLIC

-- ;;

ALTER TABLE queue.shares ENABLE ROW LEVEL SECURITY

-- ;;

ALTER TABLE queue.shares FORCE ROW LEVEL SECURITY

-- ;;

GRANT SELECT, UPDATE, DELETE ON queue.shares TO tenantry_dispatcher

-- ;;

CREATE POLICY dispatcher ON queue.shares TO tenantry_dispatcher USING (true) WITH CHECK (true)

-- ;;

GRANT EXECUTE ON FUNCTION queue.is_full TO tenantry_dispatcher

-- ;;

GRANT EXECUTE ON FUNCTION queue.least_above TO tenantry_dispatcher

-- ;;

GRANT EXECUTE ON FUNCTION queue.hold TO tenantry_dispatcher

-- ;;

GRANT EXECUTE ON FUNCTION queue.settle TO tenantry_dispatcher

-- ;;

GRANT EXECUTE ON FUNCTION queue.retire TO tenantry_dispatcher

-- ;;

GRANT EXECUTE ON FUNCTION queue.absorb TO tenantry_dispatcher

-- ;;

GRANT EXECUTE ON FUNCTION queue.recount TO tenantry_dispatcher

-- ;;

GRANT EXECUTE ON FUNCTION queue.recount_held TO tenantry_dispatcher

-- ;;

GRANT EXECUTE ON FUNCTION queue.weigh TO tenantry_dispatcher

-- ;;

GRANT EXECUTE ON FUNCTION queue.claim TO tenantry_dispatcher

-- ;;

GRANT EXECUTE ON FUNCTION queue.give_back TO tenantry_dispatcher

-- ;;

GRANT EXECUTE ON FUNCTION queue.catch_up TO tenantry_dispatcher

-- ;;

GRANT EXECUTE ON FUNCTION queue.collect TO tenantry_dispatcher

-- ;;

GRANT EXECUTE ON FUNCTION queue.standing TO tenantry_dispatcher
