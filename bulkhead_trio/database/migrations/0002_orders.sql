-- Orders, from the moment they are accepted, and the ledger that completing one writes to.

CREATE TABLE orders (
    order_id   text        PRIMARY KEY CHECK (order_id <> ''),
    user_id    text        NOT NULL,
    amount     numeric     NOT NULL CHECK (amount > 0),
    priority   smallint    NOT NULL,
    status     text        NOT NULL DEFAULT 'queued'
               CHECK (status IN ('queued', 'processing', 'completed', 'failed')),
    attempts   integer     NOT NULL DEFAULT 0,
    -- Attempts that failed with the database there: those say something of the order.
    failures   integer     NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- What is still to be done, in the order in which it is done. Small, however many orders there are.
CREATE INDEX orders_open ON orders (priority, created_at, order_id)
    WHERE status IN ('queued', 'processing');

-- What completing an order means. One entry an order, ever: a second one is refused.
CREATE TABLE order_ledger (
    entry_id  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id  text        NOT NULL UNIQUE REFERENCES orders,
    amount    numeric     NOT NULL,
    booked_at timestamptz NOT NULL DEFAULT now()
);
