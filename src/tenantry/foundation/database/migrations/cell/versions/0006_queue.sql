-- Frozen for revision 0006: what engines/fairqueue says for tenants, workspaces and principals. A line of dashes and two semicolons parts the statements.

CREATE TABLE queue.entries (
    tenant_id uuid NOT NULL CHECK (tenant_id <> '00000000-0000-0000-0000-000000000000'),
    workspace_id uuid NOT NULL,
    principal_id uuid NOT NULL,
    job_id uuid NOT NULL,
    estimate_seconds double precision NOT NULL CHECK (estimate_seconds > 0 AND estimate_seconds <= 31536000),
    slots integer NOT NULL DEFAULT 1 CHECK (slots BETWEEN 1 AND 4096),
    labels text[] NOT NULL DEFAULT '{}' CHECK (cardinality(labels) <= 16),
    enqueued_at timestamptz NOT NULL DEFAULT now(),
    cancel_requested boolean NOT NULL DEFAULT false,
    used_slot_seconds double precision CHECK (used_slot_seconds >= 0 AND used_slot_seconds <= 1e11),
    state text NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'queued', 'claimed')),
    leaf bigint,
    lane integer,
    attempt integer NOT NULL DEFAULT 0,
    worker uuid,
    lease_until timestamptz,
    charged double precision NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, job_id)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0)

-- ;;

CREATE INDEX entries_new ON queue.entries (tenant_id, enqueued_at, job_id) WHERE state = 'new'

-- ;;

CREATE INDEX entries_queued ON queue.entries (leaf, lane, enqueued_at, job_id)
    WHERE state = 'queued' AND NOT cancel_requested

-- ;;

CREATE INDEX entries_claimed ON queue.entries (worker, leaf) WHERE state = 'claimed'

-- ;;

CREATE INDEX entries_ended ON queue.entries (enqueued_at)
    WHERE used_slot_seconds IS NOT NULL OR (cancel_requested AND state <> 'claimed')

-- ;;

CREATE TABLE queue.gate (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    absorbed_up_to uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    collected_up_to bigint NOT NULL DEFAULT 0
)

-- ;;

CREATE TABLE queue.lanes (
    id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    labels text[] NOT NULL,
    slots integer NOT NULL,
    least_vt double precision NOT NULL DEFAULT 0,
    used_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (labels, slots)
) WITH (fillfactor = 50)

-- ;;

CREATE TABLE queue.nodes (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    parent bigint NOT NULL,
    key uuid NOT NULL,
    above bigint[] NOT NULL,
    weight double precision NOT NULL DEFAULT 1 CHECK (weight > 0 AND weight <= 1e6),
    UNIQUE (parent, key)
)

-- ;;

CREATE TABLE queue.fronts (
    node bigint NOT NULL,
    lane integer NOT NULL,
    parent bigint NOT NULL,
    vt double precision NOT NULL,
    least_vt double precision NOT NULL DEFAULT 0,
    queued integer NOT NULL DEFAULT 0,
    running integer NOT NULL DEFAULT 0,
    touched_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (node, lane)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0)

-- ;;

CREATE INDEX fronts_waiting ON queue.fronts (lane, parent, vt, node) WHERE queued > 0

-- ;;

CREATE TABLE queue.workers (
    worker uuid PRIMARY KEY,
    boot uuid NOT NULL,
    labels text[] NOT NULL,
    slots integer NOT NULL CHECK (slots > 0),
    heartbeat_at timestamptz NOT NULL DEFAULT now()
)

-- ;;

INSERT INTO queue.gate DEFAULT VALUES

-- ;;

-- Adds to the accounts of a leaf and of all above it. The gate must be held.
-- The cost counts in every lane of a node: what it used elsewhere is still its use. A refund may put a node below the
-- least virtual time kept above it, which is then lowered: no waiting node may be less than that.
CREATE FUNCTION queue.settle(
    p_leaf bigint, p_lane integer, p_cost double precision, p_queued integer, p_running integer
) RETURNS void LANGUAGE plpgsql
AS $$
DECLARE
    way bigint[];
BEGIN
    SELECT n.above || n.id INTO way FROM queue.nodes n WHERE n.id = p_leaf;
    UPDATE queue.fronts f
       SET vt = f.vt + p_cost / n.weight,
           queued = CASE WHEN f.lane = p_lane THEN greatest(f.queued + p_queued, 0) ELSE f.queued END,
           running = CASE WHEN f.lane = p_lane THEN greatest(f.running + p_running, 0) ELSE f.running END,
           touched_at = now()
      FROM queue.nodes n
     WHERE f.node = ANY (way) AND n.id = f.node;
    IF p_cost < 0 THEN
        UPDATE queue.fronts f SET least_vt = c.vt FROM queue.fronts c
         WHERE c.node = ANY (way) AND f.node = c.parent AND f.lane = c.lane AND f.least_vt > c.vt;
        UPDATE queue.lanes l SET least_vt = c.vt FROM queue.fronts c
         WHERE c.node = way[1] AND l.id = c.lane AND l.least_vt > c.vt;
    END IF;
END
$$

-- ;;

REVOKE ALL ON FUNCTION queue.settle(bigint, integer, double precision, integer, integer) FROM PUBLIC

-- ;;

-- Deletes finished and cancelled entries and corrects the accounts by what was really used. The gate must be held.
-- Rows somebody else has locked are left for the next time: nobody can make the gate wait.
CREATE FUNCTION queue.retire(p_limit integer) RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
    total integer := 0;
    part record;
BEGIN
    FOR part IN
        WITH ended AS (
            SELECT e.tenant_id, e.job_id FROM queue.entries e
             WHERE e.used_slot_seconds IS NOT NULL OR (e.cancel_requested AND e.state <> 'claimed')
             ORDER BY e.enqueued_at LIMIT p_limit FOR UPDATE SKIP LOCKED
        ), gone AS (
            DELETE FROM queue.entries e USING ended d
             WHERE e.tenant_id = d.tenant_id AND e.job_id = d.job_id
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
         WHERE e.tenant_id = b.tenant_id AND e.job_id = b.job_id
        RETURNING e.leaf, e.lane
    ), grouped AS (SELECT p.leaf, p.lane, count(*)::integer AS n FROM placed p GROUP BY p.leaf, p.lane)
    SELECT array_agg(g.leaf), array_agg(g.lane), array_agg(g.n) INTO leaves, leaf_lanes, counts FROM grouped g;

    -- From the root down, because a row that wakes is lifted to the least virtual time its parent keeps for the lane.
    FOR depth IN 1..3 LOOP
        INSERT INTO queue.fronts AS f (node, lane, parent, vt, least_vt, queued)
            SELECT n.id, fresh.lane, n.parent,
                   greatest(coalesce(known.vt, 0), CASE depth WHEN 1 THEN l.least_vt ELSE up.least_vt END),
                   coalesce(known.least_vt, 0), fresh.queued
              FROM (SELECT (leaf.above || leaf.id)[depth] AS node, g.lane, sum(g.n)::integer AS queued
                      FROM unnest(leaves, leaf_lanes, counts) g (leaf, lane, n)
                      JOIN queue.nodes leaf ON leaf.id = g.leaf
                     GROUP BY 1, 2) fresh
              JOIN queue.nodes n ON n.id = fresh.node
              JOIN queue.lanes l ON l.id = fresh.lane
              LEFT JOIN queue.fronts up ON up.node = n.parent AND up.lane = fresh.lane
              CROSS JOIN LATERAL (SELECT min(o.vt) AS vt, max(o.least_vt) AS least_vt
                                    FROM queue.fronts o WHERE o.node = n.id) known
        ON CONFLICT (node, lane) DO UPDATE
            SET queued = f.queued + excluded.queued, touched_at = now(),
                vt = CASE WHEN f.queued = 0 THEN greatest(f.vt, excluded.vt) ELSE f.vt END;
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
    got queue.entries;
BEGIN
    PERFORM FROM queue.gate FOR UPDATE;
    IF EXISTS (SELECT FROM queue.entries e
                WHERE e.used_slot_seconds IS NOT NULL OR (e.cancel_requested AND e.state <> 'claimed')) THEN
        PERFORM queue.retire(500);
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
                         WHERE c.lane = l.id AND c.parent = 0 AND c.queued > 0 AND c.vt >= l.least_vt
                           AND c.node <> ALL (blocked)
                         ORDER BY c.vt, c.node LIMIT 1
                      ) f WHERE l.id = ANY (serves) ORDER BY f.vt, f.node LIMIT 1;
                ELSE
                    SELECT f.node, f.vt INTO next_node, next_vt
                      FROM queue.fronts p
                      CROSS JOIN LATERAL (
                        SELECT c.node, c.vt FROM queue.fronts c
                         WHERE c.lane = p.lane AND c.parent = p.node AND c.queued > 0 AND c.vt >= p.least_vt
                           AND c.node <> ALL (blocked)
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
                   charged = x.estimate_seconds * x.slots,
                   lease_until = clock_timestamp() + make_interval(secs => p_lease_seconds)
             WHERE x.tenant_id = got.tenant_id AND x.job_id = got.job_id RETURNING x.* INTO got;
            UPDATE queue.fronts f
               SET vt = f.vt + got.charged / n.weight, touched_at = now(),
                   queued = CASE WHEN f.lane = got.lane THEN greatest(f.queued - 1, 0) ELSE f.queued END,
                   running = CASE WHEN f.lane = got.lane THEN f.running + 1 ELSE f.running END,
                   least_vt = CASE WHEN cardinality(blocked) = 0 AND f.lane = ANY (serves)
                                   THEN greatest(f.least_vt, w.vt) ELSE f.least_vt END
              FROM unnest(way, vts[2:3]) AS w (node, vt) JOIN queue.nodes n ON n.id = w.node
             WHERE f.node = w.node;
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
    UPDATE queue.entries e SET state = 'queued', worker = NULL, lease_until = NULL, charged = 0
     WHERE e.tenant_id = p_first AND e.job_id = p_entry;
    PERFORM queue.settle(held.leaf, held.lane, -held.charged, 1, -1);
    RETURN true;
END
$$

-- ;;

REVOKE ALL ON FUNCTION queue.give_back(uuid, uuid, integer, uuid) FROM PUBLIC

-- ;;

-- Brings the tree up to date without claiming; says how many entries it took in or removed (0: it is up to date).
CREATE FUNCTION queue.catch_up() RETURNS integer
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
AS $$
BEGIN
    PERFORM FROM queue.gate FOR UPDATE;
    RETURN queue.retire(1000) + queue.absorb();
END
$$

-- ;;

REVOKE ALL ON FUNCTION queue.catch_up() FROM PUBLIC

-- ;;

-- Sets the weight of the node that the keys lead to, first level first; makes the nodes on the way.
CREATE FUNCTION queue.set_weight(p_keys uuid[], p_weight double precision) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    way bigint[] := '{}';
    up bigint := 0;
BEGIN
    PERFORM FROM queue.gate FOR UPDATE;
    FOR depth IN 1..cardinality(p_keys) LOOP
        INSERT INTO queue.nodes (parent, key, above) VALUES (up, p_keys[depth], way)
            ON CONFLICT (parent, key) DO NOTHING;
        SELECT n.id INTO STRICT up FROM queue.nodes n WHERE n.parent = up AND n.key = p_keys[depth];
        way := way || up;
    END LOOP;
    UPDATE queue.nodes n SET weight = p_weight WHERE n.id = up;
END
$$

-- ;;

REVOKE ALL ON FUNCTION queue.set_weight(uuid[], double precision) FROM PUBLIC

-- ;;

-- Forgets what has been idle for so long, looking at p_limit nodes from where it stopped last; says how many went.
-- A node with a weight of its own stays. What a forgotten node owed is forgiven.
CREATE FUNCTION queue.collect(p_idle_seconds double precision, p_limit integer) RETURNS integer
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
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
    WITH deleted AS (
        DELETE FROM queue.nodes n
         WHERE n.id = ANY (seen) AND n.weight = 1
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
       AND NOT EXISTS (SELECT FROM queue.fronts f WHERE f.lane = l.id AND f.parent = 0 AND f.queued > 0)
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
-- it reaches our virtual time, taking its entries to cost what ours does.
CREATE FUNCTION queue.standing(p_first uuid, p_entry uuid, p_alive_seconds double precision)
RETURNS TABLE (now_state text, ahead_own bigint, ahead_all bigint, able_workers integer)
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    ours queue.entries;
    way bigint[];
    cost double precision;
    start double precision;
BEGIN
    SELECT e.* INTO ours FROM queue.entries e
     WHERE e.tenant_id = p_first AND e.job_id = p_entry AND e.used_slot_seconds IS NULL
       AND NOT (e.cancel_requested AND e.state <> 'claimed');
    IF NOT FOUND THEN
        RETURN;
    END IF;
    now_state := ours.state;
    SELECT count(*) INTO able_workers FROM queue.workers w
     WHERE ours.labels <@ w.labels AND ours.slots <= w.slots
       AND w.heartbeat_at > clock_timestamp() - make_interval(secs => p_alive_seconds);
    IF ours.state = 'queued' THEN
        cost := ours.estimate_seconds * ours.slots;
        SELECT count(*) INTO ahead_all FROM queue.entries e
         WHERE e.leaf = ours.leaf AND e.lane = ours.lane AND e.state = 'queued' AND NOT e.cancel_requested
           AND (e.enqueued_at, e.job_id) < (ours.enqueued_at, ours.job_id);
        SELECT n.above || n.id INTO way FROM queue.nodes n WHERE n.id = ours.leaf;
        FOR depth IN REVERSE 3..1 LOOP
            ahead_own := ahead_all;
            SELECT f.vt + ahead_all * cost / n.weight INTO start
              FROM queue.fronts f JOIN queue.nodes n ON n.id = f.node
             WHERE f.node = way[depth] AND f.lane = ours.lane;
            SELECT ahead_all + coalesce(sum(least(f.queued, ceil((start - f.vt) * n.weight / cost))), 0)::bigint
              INTO ahead_all
              FROM queue.fronts f JOIN queue.nodes n ON n.id = f.node
             WHERE f.lane = ours.lane AND f.parent = coalesce(way[depth - 1], 0) AND f.queued > 0 AND f.vt < start
               AND f.node <> way[depth];
        END LOOP;
    END IF;
    RETURN NEXT;
END
$$

-- ;;

REVOKE ALL ON FUNCTION queue.standing(uuid, uuid, double precision) FROM PUBLIC

-- ;;

GRANT USAGE ON SCHEMA queue TO tenantry_dispatcher

-- ;;

ALTER TABLE queue.entries ENABLE ROW LEVEL SECURITY

-- ;;

ALTER TABLE queue.entries FORCE ROW LEVEL SECURITY

-- ;;

GRANT SELECT, UPDATE, DELETE ON queue.entries TO tenantry_dispatcher

-- ;;

CREATE POLICY dispatcher ON queue.entries TO tenantry_dispatcher USING (true) WITH CHECK (true)

-- ;;

ALTER TABLE queue.gate ENABLE ROW LEVEL SECURITY

-- ;;

ALTER TABLE queue.gate FORCE ROW LEVEL SECURITY

-- ;;

GRANT SELECT, UPDATE ON queue.gate TO tenantry_dispatcher

-- ;;

CREATE POLICY dispatcher ON queue.gate TO tenantry_dispatcher USING (true) WITH CHECK (true)

-- ;;

ALTER TABLE queue.lanes ENABLE ROW LEVEL SECURITY

-- ;;

ALTER TABLE queue.lanes FORCE ROW LEVEL SECURITY

-- ;;

GRANT SELECT, INSERT, UPDATE, DELETE ON queue.lanes TO tenantry_dispatcher

-- ;;

CREATE POLICY dispatcher ON queue.lanes TO tenantry_dispatcher USING (true) WITH CHECK (true)

-- ;;

ALTER TABLE queue.nodes ENABLE ROW LEVEL SECURITY

-- ;;

ALTER TABLE queue.nodes FORCE ROW LEVEL SECURITY

-- ;;

GRANT SELECT, INSERT, UPDATE, DELETE ON queue.nodes TO tenantry_dispatcher

-- ;;

CREATE POLICY dispatcher ON queue.nodes TO tenantry_dispatcher USING (true) WITH CHECK (true)

-- ;;

ALTER TABLE queue.fronts ENABLE ROW LEVEL SECURITY

-- ;;

ALTER TABLE queue.fronts FORCE ROW LEVEL SECURITY

-- ;;

GRANT SELECT, INSERT, UPDATE, DELETE ON queue.fronts TO tenantry_dispatcher

-- ;;

CREATE POLICY dispatcher ON queue.fronts TO tenantry_dispatcher USING (true) WITH CHECK (true)

-- ;;

ALTER TABLE queue.workers ENABLE ROW LEVEL SECURITY

-- ;;

ALTER TABLE queue.workers FORCE ROW LEVEL SECURITY

-- ;;

GRANT SELECT, INSERT, UPDATE, DELETE ON queue.workers TO tenantry_dispatcher

-- ;;

CREATE POLICY dispatcher ON queue.workers TO tenantry_dispatcher USING (true) WITH CHECK (true)

-- ;;

GRANT EXECUTE ON FUNCTION queue.settle TO tenantry_dispatcher

-- ;;

GRANT EXECUTE ON FUNCTION queue.retire TO tenantry_dispatcher

-- ;;

GRANT EXECUTE ON FUNCTION queue.absorb TO tenantry_dispatcher

-- ;;

GRANT EXECUTE ON FUNCTION queue.recount TO tenantry_dispatcher

-- ;;

GRANT EXECUTE ON FUNCTION queue.claim TO tenantry_dispatcher

-- ;;

GRANT EXECUTE ON FUNCTION queue.give_back TO tenantry_dispatcher

-- ;;

GRANT EXECUTE ON FUNCTION queue.catch_up TO tenantry_dispatcher

-- ;;

GRANT EXECUTE ON FUNCTION queue.set_weight TO tenantry_dispatcher

-- ;;

GRANT EXECUTE ON FUNCTION queue.collect TO tenantry_dispatcher

-- ;;

GRANT EXECUTE ON FUNCTION queue.standing TO tenantry_dispatcher
