-- How the work of 0004 is claimed.
--
-- These are functions in PL/pgSQL because each of their statements sees what was committed before
-- it began. A claim has to: what it finds in a queue decides whether the queue's head may go, and
-- it must have found everything that was there when it locked the head.

-- Heads whose time has come get a turn: where the tenant's share has come to, but not before where
-- the lane has. The share is charged for what the head has given without that, and for the rows
-- that it may give before it is charged again.
-- 'waits': for other claims that charge the same shares; a claim may do so only while it has none.
CREATE FUNCTION bulkhead_trio_ready_heads(of_kind smallint, most_per_queue integer, waits boolean)
RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    queues uuid[];
    lanes smallint[];
    tenants uuid[];
    held_tenants uuid[];
    held_lanes smallint[];
BEGIN
    WITH due AS (
        SELECT h.queue_id, h.lane, h.tenant_id FROM work_heads AS h
        WHERE h.kind = of_kind AND h.state = 'waiting' AND h.due_at <= now()
        ORDER BY h.due_at LIMIT 500 FOR UPDATE SKIP LOCKED
    )
    SELECT array_agg(due.queue_id), array_agg(due.lane), array_agg(due.tenant_id)
    INTO queues, lanes, tenants FROM due;
    IF queues IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO work_shares (kind, lane, tenant_id, turn)
    SELECT DISTINCT of_kind, given.lane, given.tenant_id, 0::float8
    FROM unnest(lanes, tenants) AS given (lane, tenant_id)
    WHERE NOT EXISTS (SELECT FROM work_shares AS s WHERE s.kind = of_kind AND s.lane = given.lane
                      AND s.tenant_id = given.tenant_id)
    ORDER BY 2, 3 ON CONFLICT DO NOTHING;
    IF waits THEN
        WITH held AS (
            SELECT s.lane, s.tenant_id FROM work_shares AS s
            WHERE s.kind = of_kind AND s.lane IN (0, 1) AND s.tenant_id = ANY (tenants)
            ORDER BY s.lane, s.tenant_id FOR UPDATE
        )
        SELECT array_agg(held.lane), array_agg(held.tenant_id) INTO held_lanes, held_tenants
        FROM held;
    ELSE
        WITH held AS (
            SELECT s.lane, s.tenant_id FROM work_shares AS s
            WHERE s.kind = of_kind AND s.lane IN (0, 1) AND s.tenant_id = ANY (tenants)
            FOR UPDATE SKIP LOCKED
        )
        SELECT array_agg(held.lane), array_agg(held.tenant_id) INTO held_lanes, held_tenants
        FROM held;
    END IF;
    WITH due AS (
        SELECT h.queue_id, h.lane, h.tenant_id, h.turn, h.paid
        FROM unnest(queues, lanes, tenants) AS given (queue_id, lane, tenant_id)
        JOIN unnest(held_lanes, held_tenants) AS held (lane, tenant_id) USING (lane, tenant_id)
        JOIN work_heads AS h ON h.kind = of_kind AND h.queue_id = given.queue_id
            AND h.lane = given.lane
    ), sized AS (
        SELECT due.*, coalesce(t.weight, 1)::float8 AS weight,
            CASE WHEN due.paid > 0 THEN 0 ELSE (SELECT count(*) FROM (
                SELECT FROM work AS w WHERE w.kind = of_kind AND w.queue_id = due.queue_id
                    AND w.lane = due.lane AND w.lease_owner IS NULL AND w.due_at <= now()
                LIMIT most_per_queue) AS first) END AS size
        FROM due LEFT JOIN tenants AS t ON t.id = due.tenant_id
    ), placed AS (
        SELECT sized.*, greatest(c.turn, s.turn)
            + sum((size - least(paid, 0)) / weight) OVER (PARTITION BY sized.lane, sized.tenant_id
                                       ORDER BY sized.queue_id) AS finish
        FROM sized JOIN work_clocks AS c ON c.kind = of_kind AND c.lane = sized.lane
        JOIN work_shares AS s ON s.kind = of_kind AND s.lane = sized.lane
            AND s.tenant_id = sized.tenant_id
    ), moved AS (
        UPDATE work_heads AS h SET state = 'ready', paid = greatest(p.paid, 0) + p.size,
            turn = CASE WHEN p.paid > 0 THEN p.turn ELSE p.finish - p.size / p.weight END
        FROM placed AS p
        WHERE h.kind = of_kind AND h.queue_id = p.queue_id AND h.lane = p.lane
    )
    UPDATE work_shares AS s SET turn = charged.turn
    FROM (SELECT lane, tenant_id, max(finish) AS turn FROM placed WHERE paid <= 0
          GROUP BY lane, tenant_id) AS charged
    WHERE s.kind = of_kind AND s.lane = charged.lane AND s.tenant_id = charged.tenant_id;
END
$$;

-- Leases of work to an owner. Answers the items, in turn.
--
-- most            how many at most
-- parallel        how many the owner has in hand when it is busy: a tenant gets half of them, and
--                 retries a quarter while first tries wait, three quarters when none do
-- most_per_queue  under way of one endpoint, at all owners together; of a FIFO endpoint 1
-- chance          in [0, 1), for the part of a quarter of 'most' that is no whole number
-- left_out        queues that nothing is claimed of
--
-- What it costs depends on 'most' and on how much is under way, not on how much waits.
CREATE FUNCTION bulkhead_trio_claim(
    of_kind smallint, by_owner uuid, most integer, lease interval, parallel integer,
    most_per_queue integer, chance float8, left_out uuid[]
) RETURNS uuid[] LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    tenant_most integer := greatest(1, parallel / 2);
    retries_share integer := most / 4 + (chance < (most % 4) / 4.0)::integer;
    claimed uuid[] := '{}';
    retried integer := 0;
    queues uuid[];
    lanes smallint[];
    items uuid[];
    from_queues uuid[];
    from_lanes smallint[];
    turns float8[];
BEGIN
    -- A crash of PostgreSQL may forget a lease: the work is claimed once more, as after one that has
    -- run out. So no claim waits for the disk.
    PERFORM set_config('synchronous_commit', 'off', true);
    FOR round IN 1..6 LOOP
        PERFORM bulkhead_trio_ready_heads(of_kind, most_per_queue, round = 1);
        WITH capped AS MATERIALIZED (
            SELECT w.tenant_id FROM work AS w WHERE w.kind = of_kind AND w.lease_owner = by_owner
            GROUP BY w.tenant_id HAVING count(*) >= tenant_most
        ), first_tries AS (
            SELECT h.queue_id, h.lane FROM work_heads AS h
            WHERE h.kind = of_kind AND h.lane = 0 AND h.state = 'ready'
              AND NOT h.tenant_id = ANY (ARRAY(SELECT tenant_id FROM capped))
              AND NOT h.queue_id = ANY (left_out)
            ORDER BY h.turn LIMIT most - cardinality(claimed) FOR UPDATE SKIP LOCKED
        ), retries AS (
            -- Who has the head of lane 0 has the queue: nobody else counts what is under way there.
            SELECT h.queue_id, h.lane FROM work_heads AS h
            JOIN work_heads AS q ON q.kind = of_kind AND q.queue_id = h.queue_id AND q.lane = 0
            WHERE h.kind = of_kind AND h.lane = 1 AND h.state = 'ready'
              AND NOT h.tenant_id = ANY (ARRAY(SELECT tenant_id FROM capped))
              AND NOT h.queue_id = ANY (left_out)
            ORDER BY h.turn LIMIT most - cardinality(claimed) FOR UPDATE OF q, h SKIP LOCKED
        )
        SELECT array_agg(queue_id), array_agg(lane) INTO queues, lanes
        FROM (SELECT * FROM first_tries UNION ALL SELECT * FROM retries) AS candidates;
        EXIT WHEN queues IS NULL;

        WITH flight AS MATERIALIZED (
            SELECT w.queue_id, w.tenant_id, w.lane, w.lease_owner = by_owner AS is_ours
            FROM work AS w WHERE w.kind = of_kind AND w.lease_owner IS NOT NULL
        ), in_queue AS MATERIALIZED (
            SELECT queue_id, count(*) AS n FROM flight GROUP BY queue_id
        ), of_tenant AS MATERIALIZED (
            SELECT tenant_id, count(*) AS n FROM flight WHERE is_ours GROUP BY tenant_id
        ), heads AS MATERIALIZED (
            SELECT h.queue_id, h.lane, h.tenant_id, h.turn, coalesce(t.weight, 1) AS weight,
                e.url_version,
                CASE WHEN t.active IS FALSE THEN 0
                     WHEN CASE of_kind WHEN 1 THEN e.id IS NULL OR e.slow_until > now()
                               ELSE t.id IS NULL END THEN 0
                     ELSE greatest(0, CASE WHEN e.fifo THEN 1 ELSE most_per_queue END
                                      - coalesce(f.n, 0)) END AS room
            FROM unnest(queues, lanes) AS given (queue_id, lane)
            JOIN work_heads AS h ON h.kind = of_kind AND h.queue_id = given.queue_id
                AND h.lane = given.lane
            LEFT JOIN tenants AS t ON t.id = h.tenant_id
            LEFT JOIN webhooks AS e ON of_kind = 1 AND e.id = h.queue_id
            LEFT JOIN in_queue AS f ON f.queue_id = h.queue_id
        ), picked AS MATERIALIZED (
            SELECT h.*, r.item_id, r.nth, h.turn + r.nth / h.weight::float8 AS tag
            FROM heads AS h CROSS JOIN LATERAL (
                SELECT w.item_id, row_number() OVER (ORDER BY w.due_at, w.seq) - 1 AS nth
                FROM work AS w
                WHERE w.kind = of_kind AND w.queue_id = h.queue_id AND w.lane = h.lane
                  AND w.lease_owner IS NULL AND w.due_at <= now()
                ORDER BY w.due_at, w.seq LIMIT h.room
            ) AS r
        ), locked AS MATERIALIZED (
            SELECT w.item_id FROM work AS w JOIN picked AS p ON p.item_id = w.item_id
            WHERE w.lease_owner IS NULL FOR UPDATE OF w SKIP LOCKED
        ), in_rooms AS (
            SELECT p.*, row_number() OVER (PARTITION BY p.queue_id ORDER BY p.nth, p.lane)
                AS in_queue
            FROM picked AS p JOIN locked AS l ON l.item_id = p.item_id
        ), of_tenants AS (
            SELECT r.*, row_number() OVER (PARTITION BY r.tenant_id, r.lane ORDER BY r.tag, r.nth)
                * (CASE r.lane WHEN 0 THEN 1 ELSE 3 END) AS in_tenant
            FROM in_rooms AS r WHERE r.in_queue <= r.room
        ), allowed AS (
            SELECT a.*, row_number() OVER (PARTITION BY a.lane ORDER BY a.tag, a.nth, a.queue_id)
                AS in_lane, count(*) FILTER (WHERE a.lane = 0) OVER () AS first_tries
            FROM (SELECT o.*, row_number() OVER (PARTITION BY o.tenant_id ORDER BY o.in_tenant,
                    o.lane) AS place FROM of_tenants AS o) AS a
            LEFT JOIN of_tenant AS t ON t.tenant_id = a.tenant_id
            WHERE a.place <= tenant_most - coalesce(t.n, 0)
        ), slots AS (
            SELECT least(
                (SELECT count(*) FROM allowed WHERE lane = 1),
                most - cardinality(claimed),
                CASE WHEN (SELECT count(*) FROM allowed WHERE lane = 0) > 0
                    THEN least(greatest(0, retries_share - retried),
                               greatest(0, greatest(1, parallel / 4) - under_way))
                    ELSE greatest(0, greatest(1, parallel - parallel / 4) - under_way) END
            ) AS retries
            FROM (SELECT count(*) AS under_way FROM flight WHERE is_ours AND lane = 1) AS f
        ), chosen AS (
            SELECT a.item_id, a.queue_id, a.lane, a.tag, a.url_version FROM allowed AS a, slots AS s
            WHERE a.in_lane <= CASE a.lane WHEN 1 THEN s.retries
                               ELSE most - cardinality(claimed) - s.retries END
        ), leased AS (
            UPDATE work AS w SET lease_owner = by_owner, lease_until = now() + lease,
                url_version = c.url_version
            FROM chosen AS c WHERE w.item_id = c.item_id
            RETURNING w.item_id, c.queue_id, c.lane, c.tag
        )
        SELECT coalesce(array_agg(item_id ORDER BY lane DESC, tag), '{}'),
            coalesce(array_agg(queue_id), '{}'), coalesce(array_agg(lane), '{}'),
            ARRAY[max(tag) FILTER (WHERE lane = 0), max(tag) FILTER (WHERE lane = 1)]
        INTO items, from_queues, from_lanes, turns FROM leased;

        PERFORM bulkhead_trio_settle_heads(of_kind, queues, lanes, from_queues, from_lanes,
                                           most_per_queue);
        EXIT WHEN cardinality(items) = 0;
        claimed := claimed || items;
        retried := retried + cardinality(array_remove(from_lanes, 0::smallint));
        UPDATE work_clocks AS c SET turn = greatest(c.turn, turns[c.lane + 1])
        WHERE c.kind = of_kind AND c.lane IN (
            SELECT u.lane FROM work_clocks AS u WHERE u.kind = of_kind
              AND u.turn < turns[u.lane + 1] FOR UPDATE SKIP LOCKED);
        EXIT WHEN cardinality(claimed) >= most;
    END LOOP;
    RETURN claimed;
END
$$;

-- What becomes of heads that a claim has locked and taken from: what is left says so. What somebody
-- is finishing does not make a queue full: he may have looked for a head to free before there was
-- one.
CREATE FUNCTION bulkhead_trio_settle_heads(
    of_kind smallint, queues uuid[], lanes smallint[], from_queues uuid[], from_lanes smallint[],
    most_per_queue integer
) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    WITH taken AS MATERIALIZED (
        SELECT queue_id, lane, count(*) AS n
        FROM unnest(from_queues, from_lanes) AS given (queue_id, lane) GROUP BY queue_id, lane
    ), seen AS MATERIALIZED (
        SELECT given.queue_id, given.lane, coalesce(taken.n, 0) AS taken, h.paid,
            coalesce(t.weight, 1)::float8 AS weight, e.slow_until,
            CASE of_kind WHEN 1 THEN e.id ELSE t.id END IS NULL AS is_gone,
            t.active IS FALSE AS is_off,
            (SELECT count(*) FROM (
                SELECT FROM work AS w WHERE w.kind = of_kind AND w.queue_id = given.queue_id
                    AND w.lease_owner IS NOT NULL FOR KEY SHARE SKIP LOCKED) AS held)
                >= CASE WHEN e.fifo THEN 1 ELSE most_per_queue END AS is_full,
            (SELECT w.due_at FROM work AS w WHERE w.kind = of_kind
                AND w.queue_id = given.queue_id AND w.lane = given.lane
                AND w.lease_owner IS NULL ORDER BY w.due_at, w.seq LIMIT 1) AS next_at
        FROM unnest(queues, lanes) AS given (queue_id, lane)
        JOIN work_heads AS h ON h.kind = of_kind AND h.queue_id = given.queue_id
            AND h.lane = given.lane
        LEFT JOIN taken ON taken.queue_id = given.queue_id AND taken.lane = given.lane
        LEFT JOIN tenants AS t ON t.id = h.tenant_id
        LEFT JOIN webhooks AS e ON of_kind = 1 AND e.id = given.queue_id
    ), empty AS MATERIALIZED (
        SELECT queue_id, lane FROM seen WHERE next_at IS NULL AND paid >= taken AND NOT is_gone
    ), kept AS MATERIALIZED (
        SELECT e.queue_id FROM empty AS e WHERE e.lane = 0 AND EXISTS (
            SELECT FROM work_heads AS h
            WHERE h.kind = of_kind AND h.queue_id = e.queue_id AND h.lane = 1 AND NOT EXISTS (
                SELECT FROM empty AS o WHERE o.queue_id = e.queue_id AND o.lane = 1))
    ), unneeded AS (
        SELECT queue_id, lane FROM empty WHERE lane = 1 OR queue_id NOT IN (SELECT * FROM kept)
        UNION ALL
        SELECT h.queue_id, h.lane FROM empty AS e
        JOIN work_heads AS h ON h.kind = of_kind AND h.queue_id = e.queue_id AND h.lane = 0
        WHERE e.lane = 1 AND h.state = 'waiting' AND h.due_at = 'infinity' AND NOT EXISTS (
            SELECT FROM seen AS s WHERE s.queue_id = e.queue_id AND s.lane = 0)
          AND NOT EXISTS (SELECT FROM work AS w WHERE w.kind = of_kind
            AND w.queue_id = e.queue_id AND w.lane = 0 AND w.lease_owner IS NULL)
    ), emptied AS (
        DELETE FROM work_heads AS h USING unneeded AS u
        WHERE h.kind = of_kind AND h.queue_id = u.queue_id AND h.lane = u.lane
    ), idle AS (
        UPDATE work_heads AS h SET state = 'waiting', due_at = 'infinity', paid = 0 FROM kept AS k
        WHERE h.kind = of_kind AND h.queue_id = k.queue_id AND h.lane = 0
    ), gone AS (
        INSERT INTO work_endings (kind, queue_id)
        SELECT DISTINCT of_kind, queue_id FROM seen WHERE is_gone ON CONFLICT DO NOTHING
    )
    UPDATE work_heads AS h SET
        state = CASE WHEN s.is_gone OR s.is_off THEN 'parked'
                     WHEN s.next_at > now() OR s.slow_until > now() THEN 'waiting'
                     WHEN s.is_full THEN 'full'
                     WHEN h.paid > s.taken THEN 'ready' ELSE 'waiting' END,
        due_at = greatest(now(), s.slow_until, s.next_at),
        turn = h.turn + s.taken / s.weight,
        paid = h.paid - s.taken
    FROM seen AS s
    WHERE h.kind = of_kind AND h.queue_id = s.queue_id AND h.lane = s.lane
      AND (s.next_at IS NOT NULL OR s.paid < s.taken OR s.is_gone);
END
$$;

CREATE FUNCTION bulkhead_trio_claim_webhooks(
    by_owner uuid, most integer, lease interval, parallel integer, most_per_queue integer,
    chance float8, left_out uuid[]
) RETURNS TABLE (
    item_id uuid, seq bigint, attempts integer, tenant_id uuid, queue_id uuid, lane smallint,
    lease_until timestamptz, created_at timestamptz, scheduled_since timestamptz, event_id uuid,
    event_type text, payload text, event_created_at timestamptz, url text, secrets bytea[],
    secrets_until timestamptz[], fifo boolean, failing_since timestamptz
) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    items uuid[] := bulkhead_trio_claim(
        1::smallint, by_owner, most, lease, parallel, most_per_queue, chance, left_out);
BEGIN
    RETURN QUERY
    SELECT w.item_id, w.seq, w.attempts, w.tenant_id, w.queue_id, w.lane, w.lease_until,
        d.created_at, greatest(w.scheduled_since, h.enabled_at), e.id, e.type, e.payload::text,
        e.created_at, h.url, h.secrets, h.secrets_until, h.fifo, h.failing_since
    FROM unnest(items) WITH ORDINALITY AS claimed (item_id, place)
    JOIN work AS w ON w.item_id = claimed.item_id
    JOIN deliveries AS d ON d.id = claimed.item_id
    JOIN events AS e ON e.id = d.event_id
    JOIN webhooks AS h ON h.id = d.webhook_id
    ORDER BY claimed.place;
END
$$;

CREATE FUNCTION bulkhead_trio_claim_notifications(
    by_owner uuid, most integer, lease interval, parallel integer, most_per_queue integer,
    chance float8, left_out uuid[]
) RETURNS TABLE (
    item_id uuid, seq bigint, attempts integer, tenant_id uuid, queue_id uuid, lane smallint,
    lease_until timestamptz, created_at timestamptz, scheduled_since timestamptz, channel text,
    recipient text, subject text, body text
) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    items uuid[] := bulkhead_trio_claim(
        2::smallint, by_owner, most, lease, parallel, most_per_queue, chance, left_out);
BEGIN
    RETURN QUERY
    SELECT w.item_id, w.seq, w.attempts, w.tenant_id, w.queue_id, w.lane, w.lease_until,
        n.created_at, w.scheduled_since, n.channel, n.recipient, n.subject, n.body
    FROM unnest(items) WITH ORDINALITY AS claimed (item_id, place)
    JOIN work AS w ON w.item_id = claimed.item_id
    JOIN notifications AS n ON n.id = claimed.item_id
    ORDER BY claimed.place;
END
$$;
