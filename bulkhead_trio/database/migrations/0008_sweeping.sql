-- What is done with work that nobody finishes: lost leases, endpoints that are no more or are off.

-- Gives back the work of leases that have run out, whoever had them. Puts the counts together, and
-- looks at queues that are full again, which nothing depends on.
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
        SELECT w.item_id FROM webhooks AS h JOIN tenants AS t ON t.id = h.tenant_id
        CROSS JOIN LATERAL (
            SELECT d.id AS item_id FROM deliveries AS d
            WHERE d.webhook_id = h.id AND d.created_at < cutoff AND d.ended_at IS NULL
            ORDER BY d.created_at, d.id LIMIT most
        ) AS o JOIN work AS w ON w.item_id = o.item_id
        WHERE NOT (h.active AND t.active) AND w.lease_owner IS NULL
        ORDER BY w.item_id LIMIT most FOR UPDATE OF w SKIP LOCKED
    )
    SELECT array_agg(item_id) INTO items FROM old;
    RETURN CASE WHEN items IS NULL THEN 0 ELSE bulkhead_trio_end_work(
        1::smallint, items, 'the endpoint, or its tenant, was switched off for too long') END;
END
$$;
