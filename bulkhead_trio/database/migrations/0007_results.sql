-- What comes of claimed work, and what is done with work and history that nobody finishes.

-- An endpoint that is switched off because of what it answers: its tenant is told, in an event.
CREATE FUNCTION bulkhead_trio_disable_webhooks(ids uuid[], reasons text[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    queues uuid[];
    tenants uuid[];
BEGIN
    WITH given AS (
        SELECT id, min(reason) AS reason FROM unnest(ids, reasons) AS given (id, reason)
        WHERE reason IS NOT NULL GROUP BY id
    ), disabled AS (
        UPDATE webhooks AS h SET active = false, disabled_reason = given.reason,
            version = version + 1, updated_at = now()
        FROM given WHERE h.id = given.id AND h.active
        RETURNING h.id, h.tenant_id, h.url, h.disabled_reason
    ), raised AS (
        INSERT INTO events (tenant_id, type, payload)
        SELECT tenant_id, 'webhook.disabled', json_build_object(
            'webhookId', 'wh_' || replace(id::text, '-', ''), 'url', url,
            'disabledReason', disabled_reason)
        FROM disabled ORDER BY id RETURNING id
    ), queued AS (
        INSERT INTO event_outbox (event_id) SELECT id FROM raised ORDER BY id
    )
    SELECT array_agg(id), array_agg(tenant_id) INTO queues, tenants FROM disabled;
    IF queues IS NOT NULL THEN
        PERFORM bulkhead_trio_park_heads(1::smallint, queues, tenants);
        PERFORM pg_notify('bulkhead_trio_work', 'events');
    END IF;
END
$$;

-- The results of tries; how many of them count. One counts whose lease is still the owner's, for as
-- many attempts as when it was claimed. 'deferred' is no attempt: it only waits.
CREATE FUNCTION bulkhead_trio_finish(
    of_kind smallint, by_owner uuid, items uuid[], attempts_before integer[], outcomes text[],
    delays float8[], ats timestamptz[], statuses integer[], errors text[], durations float8[],
    responses text[], failings boolean[], reasons text[], slows float8[]
) RETURNS integer LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    counted uuid[];
    queues uuid[];
BEGIN
    IF of_kind = 1 AND num_nonnulls(VARIADIC failings) > 0 THEN
        PERFORM FROM webhooks AS h WHERE h.id IN (
            SELECT w.queue_id FROM work AS w JOIN unnest(items, failings) AS g (item, failing)
                ON w.item_id = g.item AND g.failing IS NOT NULL
        ) ORDER BY h.id FOR NO KEY UPDATE;
    END IF;
    WITH ours AS (
        SELECT w.item_id, w.queue_id
        FROM work AS w JOIN unnest(items, attempts_before) AS g (item, attempts)
            ON w.item_id = g.item AND w.attempts = g.attempts
        WHERE w.kind = of_kind AND w.lease_owner = by_owner
        ORDER BY w.item_id FOR UPDATE OF w
    )
    SELECT array_agg(item_id), array_agg(DISTINCT queue_id) INTO counted, queues FROM ours;
    IF counted IS NULL THEN
        RETURN 0;
    END IF;

    IF of_kind = 1 THEN
        WITH results AS (
            SELECT * FROM unnest(items, outcomes, delays, ats, statuses, errors, durations,
                responses) AS r (item, outcome, delay, at, status, error, duration, response)
            WHERE r.item = ANY (counted)
        ), told AS (
            UPDATE deliveries AS d SET
                state = CASE r.outcome WHEN 'retry' THEN 'retrying' WHEN 'deferred' THEN d.state
                        ELSE r.outcome END,
                attempts = d.attempts + CASE WHEN r.at IS NULL THEN 0 ELSE 1 END,
                next_at = now() + r.delay * interval '1 second',
                ended_at = CASE WHEN r.outcome IN ('delivered', 'dead') THEN now() END
            FROM results AS r WHERE d.id = r.item
            RETURNING d.attempts AS number, r.*
        )
        INSERT INTO delivery_attempts
            (kind, item_id, number, at, status, error, duration_ms, response)
        SELECT of_kind, item, number, at, status, error, duration, response FROM told
        WHERE at IS NOT NULL;
    ELSE
        WITH results AS (
            SELECT * FROM unnest(items, outcomes, delays, ats, statuses, errors, durations,
                responses) AS r (item, outcome, delay, at, status, error, duration, response)
            WHERE r.item = ANY (counted)
        ), told AS (
            UPDATE notifications AS d SET
                state = CASE r.outcome WHEN 'retry' THEN 'retrying' WHEN 'deferred' THEN d.state
                        ELSE r.outcome END,
                attempts = d.attempts + CASE WHEN r.at IS NULL THEN 0 ELSE 1 END,
                next_at = now() + r.delay * interval '1 second',
                ended_at = CASE WHEN r.outcome IN ('delivered', 'dead') THEN now() END
            FROM results AS r WHERE d.id = r.item
            RETURNING d.attempts AS number, r.*
        )
        INSERT INTO delivery_attempts
            (kind, item_id, number, at, status, error, duration_ms, response)
        SELECT of_kind, item, number, at, status, error, duration, response FROM told
        WHERE at IS NOT NULL;
    END IF;
    PERFORM bulkhead_trio_requeue(of_kind, counted, queues, items, outcomes, delays);
    IF of_kind = 1 AND num_nonnulls(VARIADIC failings) > 0 THEN
        PERFORM bulkhead_trio_judge_webhooks(
            counted_queues, counted_failings, counted_reasons, counted_slows)
        FROM (
            SELECT array_agg(d.webhook_id) AS counted_queues, array_agg(g.failing) AS
                counted_failings, array_agg(g.reason) AS counted_reasons, array_agg(g.slow) AS
                counted_slows
            FROM unnest(items, failings, reasons, slows) AS g (item, failing, reason, slow)
            JOIN deliveries AS d ON d.id = g.item
            WHERE g.item = ANY (counted) AND g.failing IS NOT NULL
        ) AS endpoints WHERE counted_queues IS NOT NULL;
    END IF;
    RETURN cardinality(counted);
END
$$;

-- Ends what has ended, and puts the rest back for later; the queues may be taken from again.
CREATE FUNCTION bulkhead_trio_requeue(
    of_kind smallint, counted uuid[], queues uuid[], items uuid[], outcomes text[], delays float8[]
) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    back_queues uuid[];
    back_lanes smallint[];
    back_tenants uuid[];
    back_dues timestamptz[];
    back_rules text[];
BEGIN
    DELETE FROM work AS w USING unnest(items, outcomes) AS g (item, outcome)
    WHERE w.item_id = g.item AND g.item = ANY (counted) AND g.outcome IN ('delivered', 'dead');
    WITH back AS (
        SELECT g.item, g.outcome, coalesce(h.fifo, false) AS fifo,
            now() + coalesce(g.delay, 0) * interval '1 second' AS due
        FROM unnest(items, outcomes, delays) AS g (item, outcome, delay)
        JOIN work AS w ON w.item_id = g.item
        LEFT JOIN webhooks AS h ON of_kind = 1 AND h.id = w.queue_id
        WHERE g.item = ANY (counted) AND g.outcome IN ('retry', 'deferred')
    ), moved AS (
        UPDATE work AS w SET lease_owner = NULL, lease_until = NULL,
            attempts = w.attempts + CASE b.outcome WHEN 'retry' THEN 1 ELSE 0 END,
            lane = CASE WHEN b.fifo THEN 0 WHEN b.outcome = 'retry' THEN 1 ELSE w.lane END,
            due_at = CASE WHEN b.fifo THEN '-infinity' ELSE b.due END
        FROM back AS b WHERE w.item_id = b.item
        RETURNING w.queue_id, w.lane, w.tenant_id, b.due, b.fifo
    )
    SELECT array_agg(queue_id), array_agg(lane), array_agg(tenant_id), array_agg(due),
        array_agg(CASE WHEN fifo THEN 'then' ELSE 'retry' END)
    INTO back_queues, back_lanes, back_tenants, back_dues, back_rules FROM moved;
    PERFORM bulkhead_trio_free_heads(
        of_kind, queues, back_queues, back_lanes, back_tenants, back_dues, back_rules);
END
$$;

-- What results mean for endpoints: failing since the first failure, well since a success; held back
-- for a while; switched off. Of several results of one endpoint a success is stronger.
CREATE FUNCTION bulkhead_trio_judge_webhooks(
    ids uuid[], failings boolean[], reasons text[], slows float8[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE webhooks AS h SET
        failing_since = CASE WHEN j.is_failing THEN coalesce(h.failing_since, now()) END,
        slow_until = greatest(h.slow_until, now() + j.slow * interval '1 second')
    FROM (
        SELECT id, bool_and(failing) AS is_failing, max(slow) AS slow
        FROM unnest(ids, failings, slows) AS given (id, failing, slow) GROUP BY id
    ) AS j WHERE h.id = j.id;
    IF num_nonnulls(VARIADIC reasons) > 0 THEN
        PERFORM bulkhead_trio_disable_webhooks(ids, reasons);
    END IF;
END
$$;

-- Gives work back untried, at once: the lease of 'by_owner' for those items.
CREATE FUNCTION bulkhead_trio_release(of_kind smallint, by_owner uuid, items uuid[])
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    back uuid[];
    queues uuid[];
BEGIN
    WITH held AS (
        SELECT w.item_id, w.queue_id FROM work AS w
        WHERE w.item_id = ANY (items) AND w.kind = of_kind AND w.lease_owner = by_owner
        ORDER BY w.item_id FOR UPDATE
    )
    SELECT array_agg(item_id), array_agg(DISTINCT queue_id) INTO back, queues FROM held;
    IF back IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM bulkhead_trio_give_back(of_kind, back, queues);
    RETURN cardinality(back);
END
$$;

-- The same for leases that have run out, whoever had them. Puts the counts together, and looks at
-- queues that are full again, which nothing depends on.
CREATE FUNCTION bulkhead_trio_sweep(of_kind smallint) RETURNS integer LANGUAGE plpgsql
SET enable_seqscan = off SET jit = off AS $$
DECLARE
    back uuid[];
    queues uuid[];
BEGIN
    WITH given AS MATERIALIZED (
        SELECT c.ctid FROM work_counts AS c WHERE c.kind = of_kind FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM work_counts AS c USING given WHERE c.ctid = given.ctid
        RETURNING c.state, c.delta
    )
    INSERT INTO work_counts (kind, state, delta)
    SELECT of_kind, state, sum(delta) FROM gone GROUP BY state HAVING sum(delta) <> 0;
    WITH late AS (
        SELECT w.item_id, w.queue_id FROM work AS w
        WHERE w.kind = of_kind AND w.lease_owner IS NOT NULL AND w.lease_until < now()
        ORDER BY w.item_id FOR UPDATE SKIP LOCKED
    )
    SELECT array_agg(item_id), array_agg(DISTINCT queue_id) INTO back, queues FROM late;
    IF back IS NOT NULL THEN
        PERFORM bulkhead_trio_give_back(of_kind, back, queues);
    END IF;
    UPDATE work_heads AS h SET state = 'waiting', due_at = now() FROM (
        SELECT f.queue_id, f.lane FROM work_heads AS f
        WHERE f.kind = of_kind AND f.state = 'full' FOR UPDATE SKIP LOCKED
    ) AS f WHERE h.kind = of_kind AND h.queue_id = f.queue_id AND h.lane = f.lane;
    RETURN coalesce(cardinality(back), 0);
END
$$;

CREATE FUNCTION bulkhead_trio_give_back(of_kind smallint, items uuid[], queues uuid[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    back_queues uuid[];
    back_lanes smallint[];
    back_tenants uuid[];
BEGIN
    WITH moved AS (
        UPDATE work AS w SET lease_owner = NULL, lease_until = NULL WHERE w.item_id = ANY (items)
        RETURNING w.queue_id, w.lane, w.tenant_id
    )
    SELECT array_agg(queue_id), array_agg(lane), array_agg(tenant_id)
    INTO back_queues, back_lanes, back_tenants FROM moved;
    PERFORM bulkhead_trio_free_heads(of_kind, queues, back_queues, back_lanes, back_tenants,
        array_fill(now(), ARRAY[cardinality(back_queues)]),
        array_fill('retry'::text, ARRAY[cardinality(back_queues)]));
    PERFORM pg_notify('bulkhead_trio_work',
                      CASE of_kind WHEN 1 THEN 'webhooks' ELSE 'notifications' END);
END
$$;

-- --- what nobody finishes ------------------------------------------------------------------------

-- Ends work that cannot be done, as dead and with the reason as a try of no length.
CREATE FUNCTION bulkhead_trio_end_work(of_kind smallint, items uuid[], reason text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    ended bigint;
BEGIN
    DELETE FROM work AS w WHERE w.item_id = ANY (items);
    IF of_kind = 1 THEN
        WITH told AS (
            UPDATE deliveries SET state = 'dead', next_at = NULL, ended_at = now(),
                attempts = attempts + 1
            WHERE id = ANY (items) AND ended_at IS NULL RETURNING id, attempts
        )
        INSERT INTO delivery_attempts (kind, item_id, number, at, error, duration_ms)
        SELECT of_kind, id, attempts, now(), reason, 0 FROM told;
    ELSE
        WITH told AS (
            UPDATE notifications SET state = 'dead', next_at = NULL, ended_at = now(),
                attempts = attempts + 1
            WHERE id = ANY (items) AND ended_at IS NULL RETURNING id, attempts
        )
        INSERT INTO delivery_attempts (kind, item_id, number, at, error, duration_ms)
        SELECT of_kind, id, attempts, now(), reason, 0 FROM told;
    END IF;
    GET DIAGNOSTICS ended = ROW_COUNT;
    RETURN ended;
END
$$;

-- Ends up to so many pieces of work of endpoints and tenants that are no more. The queue's parked
-- heads stay for five minutes, longer than any statement that still saw the endpoint may run.
CREATE FUNCTION bulkhead_trio_end_queues(most integer) RETURNS bigint LANGUAGE plpgsql
SET enable_seqscan = off SET jit = off AS $$
DECLARE
    ending record;
    items uuid[];
    ended bigint := 0;
BEGIN
    FOR ending IN SELECT * FROM work_endings ORDER BY kind, queue_id FOR UPDATE SKIP LOCKED LOOP
        WITH waiting AS (
            SELECT w.item_id FROM work AS w
            WHERE w.kind = ending.kind AND w.queue_id = ending.queue_id AND w.lease_owner IS NULL
            ORDER BY w.item_id LIMIT most - ended FOR UPDATE SKIP LOCKED
        )
        SELECT array_agg(item_id) INTO items FROM waiting;
        IF items IS NOT NULL THEN
            ended := ended + bulkhead_trio_end_work(ending.kind, items, CASE ending.kind
                WHEN 1 THEN 'the endpoint was deleted' ELSE 'the tenant was deleted' END);
        ELSIF ending.ended_at < now() - interval '5 minutes' AND NOT EXISTS (
            SELECT FROM work AS w WHERE w.kind = ending.kind AND w.queue_id = ending.queue_id
                AND w.lease_owner IS NOT NULL) THEN
            DELETE FROM work_heads WHERE kind = ending.kind AND queue_id = ending.queue_id;
            DELETE FROM work_endings WHERE kind = ending.kind AND queue_id = ending.queue_id;
        END IF;
        EXIT WHEN ended >= most;
    END LOOP;
    RETURN ended;
END
$$;

-- Gives up to so many deliveries up that have waited since before 'cutoff' for an endpoint that is
-- switched off: what is kept has an end.
CREATE FUNCTION bulkhead_trio_give_up(cutoff timestamptz, most integer) RETURNS bigint
LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
DECLARE
    items uuid[];
BEGIN
    WITH old AS (
        SELECT w.item_id FROM webhooks AS h
        CROSS JOIN LATERAL (
            SELECT d.id AS item_id FROM deliveries AS d
            WHERE d.webhook_id = h.id AND d.created_at < cutoff AND d.ended_at IS NULL
            ORDER BY d.created_at, d.id LIMIT most
        ) AS o JOIN work AS w ON w.item_id = o.item_id
        WHERE NOT h.active AND w.lease_owner IS NULL
        ORDER BY w.item_id LIMIT most FOR UPDATE OF w SKIP LOCKED
    )
    SELECT array_agg(item_id) INTO items FROM old;
    RETURN CASE WHEN items IS NULL THEN 0 ELSE bulkhead_trio_end_work(
        1::smallint, items, 'the endpoint was disabled for too long') END;
END
$$;
