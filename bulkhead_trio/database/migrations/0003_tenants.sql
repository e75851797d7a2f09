-- Tenants with their keys and routes, and what was changed of them by whom.

CREATE TABLE tenants (
    id           uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    name         text        NOT NULL CHECK (name <> ''),
    tier         text        NOT NULL CHECK (tier <> ''),
    active       boolean     NOT NULL DEFAULT true,
    -- Requests in a sliding window of so many seconds; both or neither.
    rate_limit   integer              CHECK (rate_limit > 0),
    rate_window  float8               CHECK (rate_window > 0 AND rate_window < 'infinity'),
    weight       integer     NOT NULL DEFAULT 1 CHECK (weight > 0),
    version      integer     NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CHECK ((rate_limit IS NULL) = (rate_window IS NULL))
);

-- The order of the pages of a list, read from either end.
CREATE INDEX tenants_page ON tenants (created_at, id);

-- A key itself is nowhere: only what a secret of the server's makes of it.
CREATE TABLE api_keys (
    id           text        PRIMARY KEY CHECK (id <> ''),
    tenant_id    uuid        NOT NULL REFERENCES tenants ON DELETE CASCADE,
    digest       bytea       NOT NULL CHECK (octet_length(digest) = 32),
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    revoked_at   timestamptz
);

CREATE INDEX api_keys_tenant ON api_keys (tenant_id, created_at, id);

-- The document is json, not jsonb: it is kept as it was sent, to the last digit.
CREATE TABLE routes (
    id           uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id    uuid        NOT NULL REFERENCES tenants ON DELETE CASCADE,
    spec         json        NOT NULL,
    version      integer     NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX routes_page ON routes (tenant_id, created_at, id);

-- Who changed what, and how it was before and after. It refers to nothing: it outlives what it
-- tells of. A row is written in the transaction of the change itself.
CREATE TABLE admin_audit (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at           timestamptz NOT NULL DEFAULT now(),
    who          text        NOT NULL,
    request_id   text,
    action       text        NOT NULL CHECK (action <> ''),
    subject_id   text        NOT NULL,
    tenant_id    uuid        NOT NULL,
    before       json,
    after        json
);

CREATE INDEX admin_audit_tenant ON admin_audit (tenant_id, id);

-- Every instance listens on this channel. What is told is only what to read again: by the time it
-- is heard, the change is committed, however it was made. Equal words of one transaction are said
-- once.
CREATE FUNCTION bulkhead_trio_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_LEVEL = 'STATEMENT' THEN
        PERFORM pg_notify('bulkhead_trio_changes', 'everything');
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        IF TG_ARGV[0] = 'route' THEN
            PERFORM pg_notify('bulkhead_trio_changes', 'route:' || OLD.tenant_id);
        ELSE
            PERFORM pg_notify('bulkhead_trio_changes', TG_ARGV[0] || ':' || OLD.id);
        END IF;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        IF TG_ARGV[0] = 'route' THEN
            PERFORM pg_notify('bulkhead_trio_changes', 'route:' || NEW.tenant_id);
        ELSE
            PERFORM pg_notify('bulkhead_trio_changes', TG_ARGV[0] || ':' || NEW.id);
        END IF;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER tenants_tell AFTER INSERT OR UPDATE OR DELETE ON tenants
    FOR EACH ROW EXECUTE FUNCTION bulkhead_trio_tell('tenant');
CREATE TRIGGER tenants_tell_truncated AFTER TRUNCATE ON tenants
    FOR EACH STATEMENT EXECUTE FUNCTION bulkhead_trio_tell();

-- Not when a key is used: that changes nothing for anybody.
CREATE TRIGGER api_keys_tell
    AFTER INSERT OR UPDATE OF id, tenant_id, digest, revoked_at OR DELETE ON api_keys
    FOR EACH ROW EXECUTE FUNCTION bulkhead_trio_tell('key');
CREATE TRIGGER api_keys_tell_truncated AFTER TRUNCATE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION bulkhead_trio_tell();

CREATE TRIGGER routes_tell AFTER INSERT OR UPDATE OR DELETE ON routes
    FOR EACH ROW EXECUTE FUNCTION bulkhead_trio_tell('route');
CREATE TRIGGER routes_tell_truncated AFTER TRUNCATE ON routes
    FOR EACH STATEMENT EXECUTE FUNCTION bulkhead_trio_tell();
