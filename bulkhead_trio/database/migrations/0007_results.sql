-- What comes of claimed work: results, what they mean for endpoints, and giving back untried.

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
            'webhookId', 'wh_' || replace(id::text, '-', ''), 'url', split_part(url, '?', 1),
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
    locked uuid[] := '{}';
    counted uuid[];
    queues uuid[];
    judged record;
BEGIN
    IF of_kind = 1 THEN
        locked := bulkhead_trio_lock_webhooks(items, outcomes, failings);
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
    -- What an earlier URL has answered means nothing for this one.
    SELECT array_agg(h.id) AS ids, array_agg(g.failing AND g.outcome <> 'delivered') AS failings,
        array_agg(g.reason) AS reasons, array_agg(g.slow) AS slows
    INTO judged
    FROM unnest(items, outcomes, failings, reasons, slows)
        AS g (item, outcome, failing, reason, slow)
    JOIN work AS w ON w.item_id = g.item
    JOIN webhooks AS h ON h.id = w.queue_id AND h.url_version = w.url_version
    WHERE g.item = ANY (counted) AND h.id = ANY (locked)
      AND (g.failing IS NOT NULL OR g.outcome = 'delivered');
    PERFORM bulkhead_trio_tell(of_kind, counted, items, outcomes, delays, ats, statuses, errors,
                               durations, responses);
    PERFORM bulkhead_trio_requeue(of_kind, counted, queues, items, outcomes, delays);
    IF judged.ids IS NOT NULL THEN
        PERFORM bulkhead_trio_judge_webhooks(
            judged.ids, judged.failings, judged.reasons, judged.slows);
    END IF;
    RETURN cardinality(counted);
END
$$;

-- Locks the endpoints that results may mean something for, and answers which they are: those that a
-- result says so of, and those that fail and have had something delivered.
CREATE FUNCTION bulkhead_trio_lock_webhooks(items uuid[], outcomes text[], failings boolean[])
RETURNS uuid[] LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN ARRAY(SELECT h.id FROM webhooks AS h WHERE h.id IN (
        SELECT e.id FROM unnest(items, outcomes, failings) AS g (item, outcome, failing)
        JOIN work AS w ON w.item_id = g.item JOIN webhooks AS e ON e.id = w.queue_id
        WHERE g.failing IS NOT NULL OR g.outcome = 'delivered' AND e.failing_since IS NOT NULL
    ) ORDER BY h.id FOR NO KEY UPDATE);
END
$$;

-- Writes results into the history: what has become of it, and the try.
CREATE FUNCTION bulkhead_trio_tell(
    of_kind smallint, counted uuid[], items uuid[], outcomes text[], delays float8[],
    ats timestamptz[], statuses integer[], errors text[], durations float8[], responses text[]
) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    WITH results AS (
        SELECT r.*, CASE r.outcome WHEN 'retry' THEN 'retrying' WHEN 'deferred' THEN NULL
                ELSE r.outcome END AS state,
            CASE WHEN r.at IS NULL THEN 0 ELSE 1 END AS tries,
            now() + r.delay * interval '1 second' AS next_at,
            CASE WHEN r.outcome IN ('delivered', 'dead') THEN now() END AS ended_at
        FROM unnest(items, outcomes, delays, ats, statuses, errors, durations, responses)
            AS r (item, outcome, delay, at, status, error, duration, response)
        WHERE r.item = ANY (counted)
    ), delivered AS (
        UPDATE deliveries AS d SET state = coalesce(r.state, d.state),
            attempts = d.attempts + r.tries, next_at = r.next_at, ended_at = r.ended_at
        FROM results AS r WHERE of_kind = 1 AND d.id = r.item RETURNING d.id, d.attempts
    ), notified AS (
        UPDATE notifications AS n SET state = coalesce(r.state, n.state),
            attempts = n.attempts + r.tries, next_at = r.next_at, ended_at = r.ended_at
        FROM results AS r WHERE of_kind = 2 AND n.id = r.item RETURNING n.id, n.attempts
    )
    INSERT INTO delivery_attempts (kind, item_id, number, at, status, error, duration_ms, response)
    SELECT of_kind, r.item, told.attempts, r.at, r.status, r.error, r.duration, r.response
    FROM (SELECT * FROM delivered UNION ALL SELECT * FROM notified) AS told (id, attempts)
    JOIN results AS r ON r.item = told.id WHERE r.at IS NOT NULL;
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
    ) AS j WHERE h.id = j.id
      AND (j.is_failing = (h.failing_since IS NULL) OR j.slow IS NOT NULL);
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
