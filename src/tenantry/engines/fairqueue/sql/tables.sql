CREATE TABLE __schema__.entries (
    __first__ uuid NOT NULL CHECK (__first__ <> '00000000-0000-0000-0000-000000000000'),
    __second__ uuid NOT NULL,
    __third__ uuid NOT NULL,
    __entry__ uuid NOT NULL,
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
    claimed_at timestamptz,
    PRIMARY KEY (__first__, __entry__)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX entries_new ON __schema__.entries (__first__, enqueued_at, __entry__) WHERE state = 'new';

CREATE INDEX entries_queued ON __schema__.entries (leaf, lane, enqueued_at, __entry__)
    WHERE state = 'queued' AND NOT cancel_requested;

CREATE INDEX entries_claimed ON __schema__.entries (worker, leaf) WHERE state = 'claimed';

CREATE INDEX entries_ended ON __schema__.entries (enqueued_at)
    WHERE used_slot_seconds IS NOT NULL OR (cancel_requested AND state <> 'claimed');

CREATE TABLE __schema__.shares (
    __first__ uuid NOT NULL CHECK (__first__ <> '00000000-0000-0000-0000-000000000000'),
    __second__ uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    weight double precision NOT NULL DEFAULT 1 CHECK (weight > 0 AND weight <= 1e6),
    most_running integer CHECK (most_running >= 0),
    changed boolean NOT NULL DEFAULT true,
    PRIMARY KEY (__first__, __second__)
);

CREATE INDEX shares_changed ON __schema__.shares (__first__, __second__) WHERE changed;

CREATE TABLE __schema__.gate (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    absorbed_up_to uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    collected_up_to bigint NOT NULL DEFAULT 0,
    recounted_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE __schema__.lanes (
    id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    labels text[] NOT NULL,
    slots integer NOT NULL,
    least_vt double precision NOT NULL DEFAULT 0,
    used_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (labels, slots)
) WITH (fillfactor = 50);

CREATE TABLE __schema__.nodes (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    parent bigint NOT NULL,
    key uuid NOT NULL,
    above bigint[] NOT NULL,
    weight double precision NOT NULL DEFAULT 1 CHECK (weight > 0 AND weight <= 1e6),
    most_running integer CHECK (most_running >= 0),
    UNIQUE (parent, key)
);

CREATE TABLE __schema__.fronts (
    node bigint NOT NULL,
    lane integer NOT NULL,
    parent bigint NOT NULL,
    vt double precision NOT NULL,
    least_vt double precision NOT NULL DEFAULT 0,
    queued integer NOT NULL DEFAULT 0,
    running integer NOT NULL DEFAULT 0,
    touched_at timestamptz NOT NULL DEFAULT now(),
    held boolean NOT NULL DEFAULT false,
    shut integer NOT NULL DEFAULT 0,
    PRIMARY KEY (node, lane)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0);

CREATE INDEX fronts_waiting ON __schema__.fronts (lane, parent, vt, node) WHERE queued > shut AND NOT held;

CREATE INDEX fronts_held ON __schema__.fronts (node, lane) WHERE held;

CREATE TABLE __schema__.workers (
    worker uuid PRIMARY KEY,
    boot uuid NOT NULL,
    labels text[] NOT NULL,
    slots integer NOT NULL CHECK (slots > 0),
    heartbeat_at timestamptz NOT NULL DEFAULT now()
);

INSERT INTO __schema__.gate DEFAULT VALUES;
