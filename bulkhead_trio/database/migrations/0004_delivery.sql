-- Events, the endpoints that they go to, notifications, and the work that all of it makes.
--
-- Two kinds of tables: history, which people read and workers do not (events, deliveries,
-- notifications, delivery_attempts), and what is still to be done, which is deleted when it is
-- (event_outbox, work, work_heads). docs/delivery/database.md explains the second.
--
-- Locks are taken in this order everywhere: webhooks, work, deliveries or notifications, heads,
-- shares; each in the order of its key. Claims alone begin with heads, and never wait for one.

-- A UUID of version 7: made in the order of time, so that rows of one moment are neighbours.
CREATE FUNCTION bulkhead_trio_new_id() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
        PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
        FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid
$$;

-- Every pattern that takes a type: 'order.item.added' is taken by '*', 'order.*', 'order.item.*'
-- and itself.
CREATE FUNCTION bulkhead_trio_patterns(of_type text) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT ARRAY['*', of_type] || ARRAY(
        SELECT array_to_string(parts[1:place], '.') || '.*'
        FROM string_to_array(of_type, '.') AS parts,
             generate_series(1, cardinality(parts) - 1) AS place
    )
$$;

-- --- history -------------------------------------------------------------------------------------

-- Of a tenant, or of every tenant of a tier. The payload is json, not jsonb: it is sent as it came.
CREATE TABLE events (
    id              uuid        PRIMARY KEY DEFAULT bulkhead_trio_new_id(),
    tenant_id       uuid,
    tier            text                 CHECK (tier <> ''),
    type            text        NOT NULL CHECK (type <> ''),
    payload         json        NOT NULL,
    idempotency_key text                 CHECK (idempotency_key <> ''),
    created_at      timestamptz NOT NULL DEFAULT now(),
    CHECK ((tenant_id IS NULL) = (tier IS NOT NULL))
);

CREATE UNIQUE INDEX events_idempotency ON events (tenant_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- Secrets are encrypted; the first is in force, the others sign along until their time. Another URL
-- is another version of it: what comes of tries at an earlier one means nothing for the endpoint.
CREATE TABLE webhooks (
    id              uuid        PRIMARY KEY,
    tenant_id       uuid        NOT NULL REFERENCES tenants ON DELETE CASCADE,
    url             text        NOT NULL CHECK (url <> ''),
    url_version     integer     NOT NULL DEFAULT 1,
    event_types     text[]      NOT NULL CHECK (cardinality(event_types) > 0),
    description     text,
    fifo            boolean     NOT NULL DEFAULT false,
    active          boolean     NOT NULL DEFAULT true,
    enabled_at      timestamptz NOT NULL DEFAULT now(),
    disabled_reason text,
    secrets         bytea[]     NOT NULL CHECK (cardinality(secrets) > 0),
    secrets_until   timestamptz[] NOT NULL,
    failing_since   timestamptz,
    slow_until      timestamptz,
    version         integer     NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CHECK (cardinality(secrets_until) = cardinality(secrets))
);

CREATE INDEX webhooks_page ON webhooks (tenant_id, created_at, id);
CREATE INDEX webhooks_inactive ON webhooks (id) WHERE NOT active;

-- One event for one endpoint. It refers to nothing that can be deleted: it outlives the endpoint.
CREATE TABLE deliveries (
    id         uuid        PRIMARY KEY DEFAULT bulkhead_trio_new_id(),
    event_id   uuid        NOT NULL,
    webhook_id uuid        NOT NULL,
    tenant_id  uuid        NOT NULL,
    state      text        NOT NULL DEFAULT 'pending'
               CHECK (state IN ('pending', 'retrying', 'delivered', 'dead')),
    attempts   integer     NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    next_at    timestamptz,
    ended_at   timestamptz,
    CHECK ((ended_at IS NULL) = (state IN ('pending', 'retrying')))
);

CREATE INDEX deliveries_page ON deliveries (tenant_id, created_at, id);
CREATE INDEX deliveries_webhook ON deliveries (webhook_id, created_at, id);
CREATE INDEX deliveries_undelivered ON deliveries (tenant_id, state, created_at, id)
    WHERE state <> 'delivered';
-- Everybody's dead letters, for operators.
CREATE INDEX deliveries_dead ON deliveries (created_at, id) WHERE state = 'dead';
CREATE INDEX deliveries_event ON deliveries (event_id);
CREATE INDEX deliveries_ended ON deliveries (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE notifications (
    id         uuid        PRIMARY KEY DEFAULT bulkhead_trio_new_id(),
    tenant_id  uuid        NOT NULL,
    channel    text        NOT NULL CHECK (channel <> ''),
    recipient  text        NOT NULL,
    subject    text        NOT NULL,
    body       text        NOT NULL,
    idempotency_key text            CHECK (idempotency_key <> ''),
    state      text        NOT NULL DEFAULT 'pending'
               CHECK (state IN ('pending', 'retrying', 'delivered', 'dead')),
    attempts   integer     NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    next_at    timestamptz,
    ended_at   timestamptz,
    CHECK ((ended_at IS NULL) = (state IN ('pending', 'retrying')))
);

CREATE UNIQUE INDEX notifications_idempotency ON notifications (tenant_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX notifications_page ON notifications (tenant_id, created_at, id);
CREATE INDEX notifications_dead ON notifications (created_at, id) WHERE state = 'dead';
CREATE INDEX notifications_ended ON notifications (ended_at) WHERE ended_at IS NOT NULL;

-- Every try of a delivery (kind 1) or a notification (kind 2).
CREATE TABLE delivery_attempts (
    kind        smallint    NOT NULL,
    item_id     uuid        NOT NULL,
    number      integer     NOT NULL,
    at          timestamptz NOT NULL,
    status      integer,
    error       text,
    duration_ms float8      NOT NULL,
    response    text,
    PRIMARY KEY (item_id, number)
);

-- --- what is still to be done --------------------------------------------------------------------

-- Events that are not deliveries yet; of a test, for one endpoint only.
CREATE TABLE event_outbox (
    seq        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id   uuid        NOT NULL,
    webhook_id uuid
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

-- One row for each delivery and notification that has not ended. A queue is an endpoint, or a
-- channel of a tenant; lane 0 is of first tries, 1 of retries and replays. What has an owner is
-- under way. The rows of a FIFO queue are all in lane 0 and all due since ever, so that the index
-- has them in the order of seq; when the first of them may be tried again, the queue's head says.
-- 'scheduled_since' is when it was made or last replayed; 'url_version' is the endpoint's of when
-- it was claimed.
CREATE TABLE work (
    item_id     uuid        PRIMARY KEY,
    kind        smallint    NOT NULL,
    lane        smallint    NOT NULL,
    attempts    integer     NOT NULL DEFAULT 0,
    tenant_id   uuid        NOT NULL,
    queue_id    uuid        NOT NULL,
    due_at      timestamptz NOT NULL,
    seq         bigint      GENERATED ALWAYS AS IDENTITY,
    lease_owner uuid,
    lease_until timestamptz,
    scheduled_since timestamptz NOT NULL DEFAULT now(),
    url_version integer,
    CHECK ((lease_owner IS NULL) = (lease_until IS NULL))
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

CREATE INDEX work_due ON work (kind, queue_id, lane, due_at, seq) WHERE lease_owner IS NULL;
-- Small: no more than all workers together have in hand. When a lease ends is in no index, so that
-- renewing it changes none.
CREATE INDEX work_leased ON work (kind, queue_id) WHERE lease_owner IS NOT NULL;

-- One row for each queue and lane that has work: what a claim looks at instead of the work. That of
-- lane 0 is there as long as that of lane 1 is: who has locked it, and nobody else, claims from the
-- queue, so that two claims never count what is under way at the same time.
--   ready    has work that is due; 'turn' is its place, the lowest first
--   waiting  is looked at again when it is due; never, where it has no work and is there for lane 1
--   full     has as many under way as it may; whoever ends one makes it wait for now
--   parked   its endpoint is switched off, or is no more; both lanes have a head then. Or its tenant
--            is switched off, and a claim has come upon it
CREATE TABLE work_heads (
    kind      smallint    NOT NULL,
    queue_id  uuid        NOT NULL,
    lane      smallint    NOT NULL,
    tenant_id uuid        NOT NULL,
    state     text        NOT NULL CHECK (state IN ('ready', 'waiting', 'full', 'parked')),
    -- How many rows the tenant's share has been charged for that it has not given yet; below 0 it has
    -- given more, and is charged for them before it goes.
    paid      smallint    NOT NULL DEFAULT 0,
    turn      float8      NOT NULL DEFAULT 0,
    due_at    timestamptz NOT NULL,
    -- The one that bulkhead_trio_put_heads made it by: how a row that is put says what it is.
    rule      text        NOT NULL DEFAULT 'free',
    PRIMARY KEY (kind, queue_id, lane)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500);

CREATE INDEX work_heads_ready ON work_heads (kind, lane, turn) WHERE state = 'ready';
CREATE INDEX work_heads_waiting ON work_heads (kind, due_at) WHERE state = 'waiting';

-- Where each tenant's turn has come to, and where the lanes have: start-time fair queueing (Goyal,
-- Vin, Cheng 1996) over whoever has work.
CREATE TABLE work_shares (
    kind      smallint NOT NULL,
    lane      smallint NOT NULL,
    tenant_id uuid     NOT NULL,
    turn      float8   NOT NULL,
    PRIMARY KEY (kind, lane, tenant_id)
) WITH (fillfactor = 50);

CREATE TABLE work_clocks (
    kind smallint NOT NULL,
    lane smallint NOT NULL,
    turn float8   NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, lane)
) WITH (fillfactor = 10);

INSERT INTO work_clocks (kind, lane) VALUES (1, 0), (1, 1), (2, 0), (2, 1);

-- Queues whose endpoint or tenant is no more: their work is ended bit by bit.
CREATE TABLE work_endings (
    kind     smallint    NOT NULL,
    queue_id uuid        NOT NULL,
    ended_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, queue_id)
);

-- How many there are of each state: the sum of the rows. Who changes states adds a row instead of
-- changing one that others want to change too; a sweep puts them together.
CREATE TABLE work_counts (
    kind  smallint NOT NULL,
    state text     NOT NULL,
    delta bigint   NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

CREATE FUNCTION bulkhead_trio_count_states() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO work_counts (kind, state, delta)
        SELECT TG_ARGV[0]::smallint, state, count(*) FROM new_rows
        WHERE state <> 'delivered' GROUP BY state;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO work_counts (kind, state, delta)
        SELECT TG_ARGV[0]::smallint, state, -count(*) FROM old_rows
        WHERE state <> 'delivered' GROUP BY state;
    ELSE
        INSERT INTO work_counts (kind, state, delta)
        SELECT TG_ARGV[0]::smallint, state, sum(delta) FROM (
            SELECT state, 1 AS delta FROM new_rows UNION ALL SELECT state, -1 FROM old_rows
        ) AS changed WHERE state <> 'delivered' GROUP BY state HAVING sum(delta) <> 0;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER deliveries_count_added AFTER INSERT ON deliveries
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION bulkhead_trio_count_states('1');
CREATE TRIGGER deliveries_count_changed AFTER UPDATE ON deliveries
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION bulkhead_trio_count_states('1');
CREATE TRIGGER deliveries_count_deleted AFTER DELETE ON deliveries
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION bulkhead_trio_count_states('1');
CREATE TRIGGER notifications_count_added AFTER INSERT ON notifications
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION bulkhead_trio_count_states('2');
CREATE TRIGGER notifications_count_changed AFTER UPDATE ON notifications
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION bulkhead_trio_count_states('2');
CREATE TRIGGER notifications_count_deleted AFTER DELETE ON notifications
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION bulkhead_trio_count_states('2');

-- --- heads ---------------------------------------------------------------------------------------

-- There is work in these queues, due at those times, or room for it. One statement, in the order of
-- the keys, for all heads that a transaction touches: so transactions wait for each other and never
-- in a circle. Taking a row's lock even where nothing is to be changed is the point of it: a claim
-- that is about to delete the head is waited for. What is parked stays so.
--
--   free    no work, but room: what was full is looked at again. There may be no head by now; a
--           claim deletes an idle one.
--   retry   work that was under way: what was full is looked at again, the earlier time counts
--   sooner  new work: the earlier time counts
--   stay    new work at the end of a FIFO queue: what its first row waits for counts
--   then    a FIFO queue's first row: its time counts
CREATE FUNCTION bulkhead_trio_put_heads(
    of_kind smallint, queues uuid[], lanes smallint[], tenants uuid[], dues timestamptz[],
    rules text[]
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO work_heads AS h (kind, queue_id, lane, tenant_id, state, due_at, rule)
    SELECT DISTINCT ON (queue_id, lane) of_kind, queue_id, lane, tenant_id, 'waiting', due_at, rule
    FROM (
        SELECT * FROM unnest(queues, lanes, tenants, dues, rules)
            AS given (queue_id, lane, tenant_id, due_at, rule)
        UNION ALL
        SELECT queue_id, 0, tenant_id, 'infinity', 'free'
        FROM unnest(queues, lanes, tenants) AS given (queue_id, lane, tenant_id) WHERE lane = 1
    ) AS put
    ORDER BY queue_id, lane,
        array_position(ARRAY['then', 'stay', 'sooner', 'retry', 'free'], rule), due_at
    ON CONFLICT (kind, queue_id, lane) DO UPDATE SET state = 'waiting', rule = EXCLUDED.rule,
        due_at = CASE WHEN h.state = 'full' AND EXCLUDED.rule IN ('free', 'retry') THEN now()
                      ELSE EXCLUDED.due_at END
    WHERE CASE EXCLUDED.rule
        WHEN 'free' THEN h.state = 'full'
        WHEN 'retry' THEN h.state = 'full' OR h.state = 'waiting' AND h.due_at > EXCLUDED.due_at
        WHEN 'sooner' THEN h.state = 'waiting' AND h.due_at > EXCLUDED.due_at
        WHEN 'stay' THEN h.state = 'waiting' AND h.due_at = 'infinity'
        WHEN 'then' THEN h.state <> 'parked' END
$$;

-- Some work of these queues is under way no more, and some of it is back: the heads of all of them.
CREATE FUNCTION bulkhead_trio_free_heads(
    of_kind smallint, free_queues uuid[], queues uuid[], lanes smallint[], tenants uuid[],
    dues timestamptz[], rules text[]
) RETURNS void LANGUAGE sql AS $$
    SELECT bulkhead_trio_put_heads(of_kind, array_agg(queue_id), array_agg(lane),
        array_agg(tenant_id), array_agg(due_at), array_agg(rule))
    FROM (
        SELECT * FROM unnest(queues, lanes, tenants, dues, rules)
            AS back (queue_id, lane, tenant_id, due_at, rule)
        UNION ALL
        SELECT h.queue_id, h.lane, h.tenant_id, now(), 'free' FROM work_heads AS h
        WHERE h.kind = of_kind AND h.queue_id = ANY (free_queues)
    ) AS touched
$$;

-- An endpoint is switched off, or is no more. Both lanes get a head, so that work that comes later
-- finds it parked.
CREATE FUNCTION bulkhead_trio_park_heads(of_kind smallint, queues uuid[], tenants uuid[])
RETURNS void LANGUAGE sql AS $$
    INSERT INTO work_heads AS h (kind, queue_id, lane, tenant_id, state, due_at)
    SELECT of_kind, queue_id, lane, tenant_id, 'parked', now()
    FROM (SELECT DISTINCT * FROM unnest(queues, tenants) AS given (queue_id, tenant_id)) AS given,
         unnest(ARRAY[0, 1]::smallint[]) AS lane
    ORDER BY queue_id, lane
    ON CONFLICT (kind, queue_id, lane) DO UPDATE SET state = 'parked'
$$;

-- What waits in these queues is looked at now.
CREATE FUNCTION bulkhead_trio_wake_heads(of_kind smallint, queues uuid[]) RETURNS void
LANGUAGE sql AS $$
    UPDATE work_heads AS h SET state = 'waiting', due_at = now() FROM (
        SELECT w.queue_id, w.lane FROM work_heads AS w
        WHERE w.kind = of_kind AND w.queue_id = ANY (queues) ORDER BY w.queue_id, w.lane FOR UPDATE
    ) AS w
    WHERE h.kind = of_kind AND h.queue_id = w.queue_id AND h.lane = w.lane
      AND h.state IN ('waiting', 'full')
$$;

CREATE FUNCTION bulkhead_trio_unpark_heads(of_kind smallint, queue uuid) RETURNS void
LANGUAGE sql AS $$
    UPDATE work_heads SET state = 'waiting', due_at = now()
    WHERE kind = of_kind AND queue_id = queue AND state = 'parked'
$$;

-- Of a channel of a tenant.
CREATE FUNCTION bulkhead_trio_channel_queue(tenant uuid, channel text) RETURNS uuid
LANGUAGE sql IMMUTABLE AS $$ SELECT md5(tenant || ':' || channel)::uuid $$;

CREATE FUNCTION bulkhead_trio_webhook_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM bulkhead_trio_park_heads(1::smallint, ARRAY[OLD.id], ARRAY[OLD.tenant_id]);
    INSERT INTO work_endings (kind, queue_id) VALUES (1, OLD.id) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

CREATE TRIGGER webhooks_gone AFTER DELETE ON webhooks
    FOR EACH ROW EXECUTE FUNCTION bulkhead_trio_webhook_gone();

CREATE FUNCTION bulkhead_trio_tenant_gone() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    queues uuid[];
BEGIN
    -- A queue that has no head has work under way.
    queues := ARRAY(
        SELECT queue_id FROM work_heads WHERE kind = 2 AND tenant_id = OLD.id
        UNION SELECT queue_id FROM work
        WHERE kind = 2 AND tenant_id = OLD.id AND lease_owner IS NOT NULL ORDER BY queue_id);
    PERFORM bulkhead_trio_park_heads(
        2::smallint, queues, array_fill(OLD.id, ARRAY[cardinality(queues)]));
    INSERT INTO work_endings (kind, queue_id) SELECT 2, unnest(queues) ON CONFLICT DO NOTHING;
    DELETE FROM work_shares WHERE tenant_id = OLD.id;
    RETURN NULL;
END
$$;

-- A tenant is switched on: what a claim has parked meanwhile, because it was off, waits again. All of
-- its heads are locked first, so that a claim which still took it to be off has parked them by then.
CREATE FUNCTION bulkhead_trio_tenant_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH heads AS MATERIALIZED (
        SELECT kind, queue_id, lane, state FROM work_heads WHERE tenant_id = NEW.id
        ORDER BY kind, queue_id, lane FOR UPDATE
    )
    UPDATE work_heads AS h SET state = 'waiting', due_at = now() FROM heads AS p
    WHERE h.kind = p.kind AND h.queue_id = p.queue_id AND h.lane = p.lane AND p.state = 'parked'
      AND (p.kind = 2 OR EXISTS (SELECT FROM webhooks AS e WHERE e.id = p.queue_id AND e.active))
      AND NOT EXISTS (SELECT FROM work_endings AS g
                      WHERE g.kind = p.kind AND g.queue_id = p.queue_id);
    PERFORM pg_notify('bulkhead_trio_work', 'webhooks');
    PERFORM pg_notify('bulkhead_trio_work', 'notifications');
    RETURN NULL;
END
$$;

CREATE TRIGGER tenants_on AFTER UPDATE OF active ON tenants
    FOR EACH ROW WHEN (NEW.active AND NOT OLD.active) EXECUTE FUNCTION bulkhead_trio_tenant_on();

CREATE TRIGGER tenants_gone AFTER DELETE ON tenants
    FOR EACH ROW EXECUTE FUNCTION bulkhead_trio_tenant_gone();
