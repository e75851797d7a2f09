-- The tier API's table and its demonstration rows.
--
-- One source for two readers: it is the first migration (bulkhead_trio/database/migrations links
-- here), and docker-compose.yml gives it to a fresh PostgreSQL. So it may run twice, and the second
-- time it changes nothing.

CREATE TABLE IF NOT EXISTS tenant_data (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tier       text        NOT NULL CHECK (tier <> ''),
    payload    jsonb       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The one way in which rows are read: the first of a tier, oldest id first.
CREATE INDEX IF NOT EXISTS tenant_data_tier_id ON tenant_data (tier, id);

INSERT INTO tenant_data (tier, payload)
SELECT tier, jsonb_build_object('message', initcap(tier) || ' tier data point ' || number)
FROM unnest(ARRAY['free', 'pro', 'enterprise']) WITH ORDINALITY AS tiers (tier, place),
     generate_series(1, 10) AS number
WHERE NOT EXISTS (SELECT 1 FROM tenant_data AS present WHERE present.tier = tiers.tier)
ORDER BY place, number;
