-- How the work of 0004 comes to be: of events, of notifications, and once more.

-- Takes events out of the outbox and makes a delivery for each endpoint that wants one. One at a
-- time in the whole cluster: so an endpoint's deliveries are numbered in the order of the events,
-- which a FIFO endpoint relies on.
CREATE FUNCTION bulkhead_trio_fan_out(most integer, OUT events bigint, OUT deliveries bigint)
LANGUAGE plpgsql AS $$
DECLARE
    queues uuid[];
    tenants uuid[];
    rules text[];
BEGIN
    PERFORM pg_advisory_xact_lock(x'62746f7574626f78'::bigint);  -- btoutbox
    WITH taken AS (
        DELETE FROM event_outbox WHERE seq IN (
            SELECT seq FROM event_outbox ORDER BY seq LIMIT most
        ) RETURNING seq, event_id, webhook_id
    ), wanted AS (
        SELECT t.seq, e.id AS event_id, w.id AS webhook_id, w.tenant_id, w.fifo
        FROM taken AS t JOIN events AS e ON e.id = t.event_id
        JOIN webhooks AS w ON w.tenant_id = e.tenant_id
        WHERE CASE WHEN t.webhook_id IS NULL
            THEN w.event_types && bulkhead_trio_patterns(e.type) ELSE w.id = t.webhook_id END
        UNION ALL
        SELECT t.seq, e.id, w.id, w.tenant_id, w.fifo
        FROM taken AS t JOIN events AS e ON e.id = t.event_id AND e.tenant_id IS NULL
        JOIN tenants AS n ON n.tier = e.tier JOIN webhooks AS w ON w.tenant_id = n.id
        WHERE w.event_types && bulkhead_trio_patterns(e.type)
    ), made AS MATERIALIZED (
        SELECT bulkhead_trio_new_id() AS id, ordered.*
        FROM (SELECT * FROM wanted ORDER BY seq, webhook_id) AS ordered
    ), kept AS (
        INSERT INTO deliveries (id, event_id, webhook_id, tenant_id)
        SELECT id, event_id, webhook_id, tenant_id FROM made ORDER BY seq, webhook_id
    ), queued AS (
        INSERT INTO work (item_id, kind, lane, tenant_id, queue_id, due_at)
        SELECT id, 1, 0, tenant_id, webhook_id, CASE WHEN fifo THEN '-infinity' ELSE now() END
        FROM made ORDER BY seq, webhook_id
    ), filled AS (
        SELECT webhook_id, tenant_id, CASE WHEN bool_or(fifo) THEN 'stay' ELSE 'sooner' END AS rule
        FROM made GROUP BY webhook_id, tenant_id
    )
    SELECT (SELECT count(*) FROM taken), (SELECT count(*) FROM made),
        array_agg(webhook_id), array_agg(tenant_id), array_agg(rule)
    INTO events, deliveries, queues, tenants, rules FROM filled;
    IF deliveries > 0 THEN
        PERFORM bulkhead_trio_put_heads(1::smallint, queues,
            array_fill(0::smallint, ARRAY[cardinality(queues)]), tenants,
            array_fill(now(), ARRAY[cardinality(queues)]), rules);
        PERFORM pg_notify('bulkhead_trio_work', 'webhooks');
    END IF;
END
$$;

-- The id of a new one, or of the one that has this key and says the same. NULL: there is no such
-- tenant (its lock keeps the tenant until the notification is its), or another one has the key.
CREATE FUNCTION bulkhead_trio_add_notification(
    of_tenant uuid, by_channel text, to_recipient text, of_subject text, with_body text,
    with_key text, OUT new_id uuid, OUT is_conflict boolean
) LANGUAGE plpgsql AS $$
DECLARE
    queue uuid := bulkhead_trio_channel_queue(of_tenant, by_channel);
BEGIN
    is_conflict := false;
    PERFORM FROM tenants WHERE id = of_tenant FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    INSERT INTO notifications (tenant_id, channel, recipient, subject, body, idempotency_key)
    VALUES (of_tenant, by_channel, to_recipient, of_subject, with_body, with_key)
    ON CONFLICT (tenant_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id INTO new_id;
    IF new_id IS NULL THEN
        SELECT n.id INTO new_id FROM notifications AS n
        WHERE n.tenant_id = of_tenant AND n.idempotency_key = with_key AND n.channel = by_channel
          AND n.recipient = to_recipient AND n.subject = of_subject AND n.body = with_body;
        is_conflict := new_id IS NULL;
        RETURN;
    END IF;
    INSERT INTO work (item_id, kind, lane, tenant_id, queue_id, due_at)
    VALUES (new_id, 2, 0, of_tenant, queue, now());
    PERFORM bulkhead_trio_put_heads(2::smallint, ARRAY[queue], ARRAY[0::smallint],
        ARRAY[of_tenant], ARRAY[now()], ARRAY['sooner']);
    PERFORM pg_notify('bulkhead_trio_work', 'notifications');
END
$$;

-- An endpoint that was being left alone ('slow_until') is tried again.
CREATE FUNCTION bulkhead_trio_leave_alone_no_more(webhook uuid) RETURNS void LANGUAGE sql AS $$
    UPDATE webhooks SET slow_until = NULL WHERE id = webhook AND slow_until > now()
$$;

-- What has ended begins anew, among the retries: it must not hold up what is new. What is to be
-- retried begins anew too, and is due now. What was never tried, or is under way, stays as it is;
-- so does what is no more in the state that it was seen in, where 'seen' says one. Answers the
-- ids of what it has moved.
CREATE FUNCTION bulkhead_trio_replay_deliveries(items uuid[], seen text[]) RETURNS uuid[]
LANGUAGE plpgsql AS $$
DECLARE
    moved uuid[];
    hurried_items uuid[];
BEGIN
    -- Who asks for this one delivery does not want to wait for an endpoint that is left alone.
    IF seen IS NULL THEN
        PERFORM bulkhead_trio_leave_alone_no_more(d.webhook_id)
        FROM deliveries AS d WHERE d.id = ANY (items);
    END IF;
    PERFORM FROM work AS w WHERE w.item_id = ANY (items) ORDER BY w.item_id FOR UPDATE;
    PERFORM FROM deliveries AS d WHERE d.id = ANY (items) ORDER BY d.id FOR UPDATE;
    items := ARRAY(SELECT g.item FROM unnest(items, seen) AS g (item, state)
                   JOIN deliveries AS d ON d.id = g.item AND d.state = coalesce(g.state, d.state));
    WITH ended AS (
        UPDATE deliveries AS d SET state = 'pending', next_at = NULL, ended_at = NULL
        FROM webhooks AS h
        WHERE d.id = ANY (items) AND d.ended_at IS NOT NULL AND h.id = d.webhook_id
        RETURNING d.id, d.tenant_id, d.webhook_id, h.fifo
    ), added AS (
        INSERT INTO work (item_id, kind, lane, tenant_id, queue_id, due_at)
        SELECT id, 1, CASE WHEN fifo THEN 0 ELSE 1 END, tenant_id, webhook_id,
            CASE WHEN fifo THEN '-infinity' ELSE now() END
        FROM ended ORDER BY id
    ), hurried AS (
        UPDATE work AS w SET due_at = least(w.due_at, now()), attempts = 0, scheduled_since = now()
        FROM deliveries AS d
        WHERE w.item_id = ANY (items) AND w.lease_owner IS NULL AND d.id = w.item_id
          AND d.state = 'retrying'
        RETURNING w.item_id
    ), told AS (
        UPDATE deliveries AS d SET next_at = NULL FROM hurried WHERE d.id = hurried.item_id
    )
    SELECT array_agg(id), array_agg(id) FILTER (WHERE is_hurried) INTO moved, hurried_items FROM (
        SELECT id, false AS is_hurried FROM ended UNION ALL SELECT item_id, true FROM hurried
    ) AS touched;
    IF moved IS NOT NULL THEN
        PERFORM bulkhead_trio_put_heads(1::smallint, array_agg(w.queue_id), array_agg(w.lane),
            array_agg(w.tenant_id), array_agg(now()),
            array_agg(CASE WHEN NOT h.fifo THEN 'sooner'
                WHEN w.item_id = ANY (hurried_items) AND w.item_id = (
                    SELECT f.item_id FROM work AS f
                    WHERE f.kind = 1 AND f.queue_id = w.queue_id AND f.lane = w.lane
                      AND f.lease_owner IS NULL ORDER BY f.due_at, f.seq LIMIT 1) THEN 'then'
                ELSE 'stay' END))
        FROM work AS w JOIN webhooks AS h ON h.id = w.queue_id WHERE w.item_id = ANY (moved);
        PERFORM pg_notify('bulkhead_trio_work', 'webhooks');
    END IF;
    RETURN coalesce(moved, '{}');
END
$$;

CREATE FUNCTION bulkhead_trio_replay_notifications(items uuid[], seen text[]) RETURNS uuid[]
LANGUAGE plpgsql AS $$
DECLARE
    moved uuid[];
BEGIN
    PERFORM FROM work AS w WHERE w.item_id = ANY (items) ORDER BY w.item_id FOR UPDATE;
    PERFORM FROM notifications AS n WHERE n.id = ANY (items) ORDER BY n.id FOR UPDATE;
    items := ARRAY(SELECT g.item FROM unnest(items, seen) AS g (item, state)
                   JOIN notifications AS n ON n.id = g.item
                       AND n.state = coalesce(g.state, n.state));
    WITH ended AS (
        UPDATE notifications AS n SET state = 'pending', next_at = NULL, ended_at = NULL
        FROM tenants AS t
        WHERE n.id = ANY (items) AND n.ended_at IS NOT NULL AND t.id = n.tenant_id
        RETURNING n.id, n.tenant_id, bulkhead_trio_channel_queue(n.tenant_id, n.channel) AS queue
    ), added AS (
        INSERT INTO work (item_id, kind, lane, tenant_id, queue_id, due_at)
        SELECT id, 2, 1, tenant_id, queue, now() FROM ended ORDER BY id
    ), hurried AS (
        UPDATE work AS w SET due_at = least(w.due_at, now()), attempts = 0, scheduled_since = now()
        FROM notifications AS n
        WHERE w.item_id = ANY (items) AND w.lease_owner IS NULL AND n.id = w.item_id
          AND n.state = 'retrying'
        RETURNING w.item_id
    ), told AS (
        UPDATE notifications AS n SET next_at = NULL FROM hurried WHERE n.id = hurried.item_id
    )
    SELECT array_agg(id) INTO moved FROM (
        SELECT id FROM ended UNION ALL SELECT item_id FROM hurried
    ) AS touched;
    IF moved IS NOT NULL THEN
        PERFORM bulkhead_trio_put_heads(2::smallint, array_agg(queue_id), array_agg(lane),
            array_agg(tenant_id), array_agg(now()), array_agg('sooner'::text))
        FROM work WHERE item_id = ANY (moved);
        PERFORM pg_notify('bulkhead_trio_work', 'notifications');
    END IF;
    RETURN coalesce(moved, '{}');
END
$$;

-- --- lines ---------------------------------------------------------------------------------------

-- These change what is in a queue according to what its endpoint has just become. Fan-outs are kept
-- out until that is committed, and results are waited for: whoever reads what the endpoint is, does
-- so after that. All rows are locked at once, in their order.

-- An endpoint has become FIFO: what was a retry is in line again with the rest, and all is due.
CREATE FUNCTION bulkhead_trio_put_in_line(queue uuid, of_tenant uuid) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    items uuid[];
BEGIN
    PERFORM pg_advisory_xact_lock(x'62746f7574626f78'::bigint);
    items := ARRAY(SELECT item_id FROM work WHERE kind = 1 AND queue_id = queue
                   ORDER BY item_id FOR UPDATE);
    WITH moved AS (
        UPDATE work SET lane = 0, due_at = '-infinity'
        WHERE item_id = ANY (items) AND lease_owner IS NULL RETURNING item_id
    )
    UPDATE deliveries AS d SET next_at = NULL FROM moved
    WHERE d.id = moved.item_id AND d.next_at IS NOT NULL;
    IF cardinality(items) > 0 THEN
        PERFORM bulkhead_trio_put_heads(1::smallint, ARRAY[queue], ARRAY[0::smallint],
            ARRAY[of_tenant], ARRAY[now()], ARRAY['then']);
    END IF;
END
$$;

-- An endpoint is FIFO no more: what is to be retried goes to the lane of retries, for when it was
-- to be, and the rest does not wait for it.
CREATE FUNCTION bulkhead_trio_put_out_of_line(queue uuid, of_tenant uuid) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    items uuid[];
    lanes smallint[];
    dues timestamptz[];
BEGIN
    PERFORM pg_advisory_xact_lock(x'62746f7574626f78'::bigint);
    items := ARRAY(SELECT w.item_id FROM work AS w WHERE w.item_id IN (
        SELECT d.id FROM deliveries AS d
        WHERE d.tenant_id = of_tenant AND d.state = 'retrying' AND d.webhook_id = queue
        UNION SELECT l.item_id FROM work AS l
        WHERE l.kind = 1 AND l.queue_id = queue AND l.lease_owner IS NOT NULL
        UNION (SELECT f.item_id FROM work AS f WHERE f.kind = 1 AND f.queue_id = queue
               AND f.lane = 0 AND f.lease_owner IS NULL ORDER BY f.due_at, f.seq LIMIT 1)
    ) ORDER BY w.item_id FOR UPDATE);
    WITH moved AS (
        UPDATE work AS w SET lane = CASE d.state WHEN 'retrying' THEN 1 ELSE 0 END,
            due_at = coalesce(d.next_at, now())
        FROM deliveries AS d
        WHERE w.item_id = ANY (items) AND w.lease_owner IS NULL AND d.id = w.item_id
        RETURNING w.lane, w.due_at
    )
    SELECT array_agg(lane), array_agg(due_at) INTO lanes, dues FROM moved;
    IF lanes IS NOT NULL THEN
        PERFORM bulkhead_trio_put_heads(
            1::smallint, array_fill(queue, ARRAY[cardinality(lanes)]), lanes,
            array_fill(of_tenant, ARRAY[cardinality(lanes)]), dues,
            array_fill('retry'::text, ARRAY[cardinality(lanes)]));
    END IF;
    PERFORM bulkhead_trio_wake_heads(1::smallint, ARRAY[queue]);
END
$$;
