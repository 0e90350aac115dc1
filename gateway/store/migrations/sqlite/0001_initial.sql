-- Instants are milliseconds since 1970, UTC. Statuses: ready leased done held dead, and unknown in the outbox.
-- `due_at_ms` NULL on a ready row: an earlier row of its order is still open, and this one waits behind it.
-- `lease` is the fencing token of the one attempt that may settle a leased row. A leased row has no due time: a start finds it by that.

CREATE TABLE sources (
    name             TEXT PRIMARY KEY,
    first_started_ms INTEGER NOT NULL,
    last_message_ms  INTEGER
) WITHOUT ROWID;

CREATE TABLE cursors (
    source TEXT NOT NULL,
    door   TEXT NOT NULL,
    cursor TEXT NOT NULL,
    PRIMARY KEY (source, door)
) WITHOUT ROWID;

-- One row per order that a source has shown us; it decides what is new, what a repeat and what a revision.
-- `sent`: the targets, once the messages themselves have been let go of.
CREATE TABLE orders (
    id         INTEGER PRIMARY KEY,
    source     TEXT NOT NULL,
    order_ref  TEXT NOT NULL,
    versions   INTEGER NOT NULL,
    messages   INTEGER NOT NULL DEFAULT 0,
    open       INTEGER NOT NULL DEFAULT 0,
    rejected   INTEGER NOT NULL DEFAULT 0,
    content    BLOB,
    sent       TEXT,
    newest_key TEXT NOT NULL
);
CREATE UNIQUE INDEX orders_by_ref ON orders (source, order_ref);
-- Those that may still change at a vendor that is asked order by order.
CREATE INDEX orders_open ON orders (source, id) WHERE open = 1;

-- Three kinds of index on each queue: what is under way (leasing is one range scan of it), what waits for a person, and what
-- can be erased. Rows of one order are found by the order; nothing reads what is done.
CREATE TABLE inbox (
    id             INTEGER PRIMARY KEY,
    source         TEXT NOT NULL,
    door           TEXT NOT NULL,
    key            TEXT NOT NULL,
    version        INTEGER NOT NULL,
    order_id       INTEGER REFERENCES orders (id),
    status         TEXT NOT NULL,
    due_at_ms      INTEGER,
    attempts       INTEGER NOT NULL DEFAULT 0,
    lease          INTEGER,
    released       INTEGER NOT NULL DEFAULT 0,
    fetch          INTEGER NOT NULL DEFAULT 0,
    compared       INTEGER NOT NULL DEFAULT 0,
    reference      TEXT,
    occurred_at_ms INTEGER,
    received_at_ms INTEGER NOT NULL,
    settled_at_ms  INTEGER,
    outcome        TEXT,
    reason         TEXT,
    content        BLOB,
    sha256         BLOB,
    document       BLOB,
    fetched_sha256 BLOB,
    fetched        BLOB,
    CHECK (status <> 'leased' OR due_at_ms IS NULL)
);
CREATE UNIQUE INDEX inbox_by_key ON inbox (key, source, version);
CREATE INDEX inbox_by_order ON inbox (order_id, id);
CREATE INDEX inbox_active ON inbox (source, due_at_ms, id, status) WHERE status IN ('ready', 'leased', 'unknown');
CREATE INDEX inbox_waiting ON inbox (status, source) WHERE status IN ('held', 'dead');
CREATE INDEX inbox_erasable ON inbox (settled_at_ms) WHERE status = 'done' AND coalesce(document, fetched) IS NOT NULL;

-- `inbox_id` and `held_for` name inbox rows. They are no REFERENCES: that would cost an index of each, or, where an old event is
-- let go of, a look at every delivery. `sending`: NULL where the lease is all that is known, else whether a request has been announced. `unknown_since_ms`: since
-- when nobody knows whether the last request was done. `step`, `item`: how many requests of a row that needs several are finished.
CREATE TABLE outbox (
    id               INTEGER PRIMARY KEY,
    target           TEXT NOT NULL,
    key              TEXT NOT NULL,
    kind             TEXT NOT NULL,
    order_id         INTEGER NOT NULL REFERENCES orders (id),
    inbox_id         INTEGER NOT NULL,
    status           TEXT NOT NULL,
    due_at_ms        INTEGER,
    attempts         INTEGER NOT NULL DEFAULT 0,
    lease            INTEGER,
    maybe_taken      INTEGER NOT NULL DEFAULT 0,
    held_for         INTEGER,
    created_at_ms    INTEGER NOT NULL,
    first_attempt_ms INTEGER,
    settled_at_ms    INTEGER,
    outcome          TEXT,
    reason           TEXT,
    duration_ms      INTEGER,
    http_status      INTEGER,
    answer           TEXT,
    sending          INTEGER,
    unknown_since_ms INTEGER,
    looks            INTEGER NOT NULL DEFAULT 0,
    strikes          INTEGER NOT NULL DEFAULT 0,
    step             INTEGER NOT NULL DEFAULT 0,
    item             INTEGER NOT NULL DEFAULT 0,
    erp_id           TEXT,
    erp_number       TEXT,
    sent_sha256      BLOB,
    sha256           BLOB NOT NULL,
    body             BLOB,
    CHECK (status <> 'leased' OR due_at_ms IS NULL)
);
CREATE UNIQUE INDEX outbox_by_key ON outbox (key, target);
CREATE INDEX outbox_by_order ON outbox (order_id, target, id);
CREATE INDEX outbox_active ON outbox (target, due_at_ms, id, status) WHERE status IN ('ready', 'leased', 'unknown');
-- Which of our messages an order of the target was made of.
CREATE INDEX outbox_by_erp_id ON outbox (target, erp_id) WHERE erp_id IS NOT NULL;
CREATE INDEX outbox_waiting ON outbox (status, target) WHERE status IN ('held', 'dead');
CREATE INDEX outbox_erasable ON outbox (settled_at_ms) WHERE status = 'done' AND body IS NOT NULL;

CREATE TABLE acknowledgements (
    id               INTEGER PRIMARY KEY,
    source           TEXT NOT NULL,
    stage            TEXT NOT NULL,
    inbox_id         INTEGER NOT NULL REFERENCES inbox (id),
    status           TEXT NOT NULL,
    due_at_ms        INTEGER,
    attempts         INTEGER NOT NULL DEFAULT 0,
    lease            INTEGER,
    created_at_ms    INTEGER NOT NULL,
    first_attempt_ms INTEGER,
    settled_at_ms    INTEGER,
    reason           TEXT,
    CHECK (status <> 'leased' OR due_at_ms IS NULL)
);
CREATE UNIQUE INDEX acknowledgements_by_event ON acknowledgements (inbox_id, stage);
CREATE INDEX acknowledgements_active ON acknowledgements (source, due_at_ms, id, status) WHERE status IN ('ready', 'leased', 'unknown');
CREATE INDEX acknowledgements_waiting ON acknowledgements (status, source) WHERE status IN ('held', 'dead');

-- What was tried and did not end well, for the operator; how a delivery ended well stands in its own row.
-- `queue`: inbox, outbox or acknowledgements.
CREATE TABLE attempts (
    id          INTEGER PRIMARY KEY,
    queue       TEXT NOT NULL,
    row_id      INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    at_ms       INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    outcome     TEXT NOT NULL,
    http_status INTEGER,
    detail      TEXT
);
CREATE INDEX attempts_by_row ON attempts (queue, row_id);

-- What people decided; never deleted.
CREATE TABLE audit (
    id     INTEGER PRIMARY KEY,
    at_ms  INTEGER NOT NULL,
    who    TEXT NOT NULL,
    action TEXT NOT NULL,
    queue  TEXT,
    row_id INTEGER,
    key    TEXT,
    reason TEXT
);
CREATE INDEX audit_by_row ON audit (queue, row_id);

-- When the file was a copy that was put back. Until somebody says that this is over, what is made of an event from before
-- counts as perhaps sent.
CREATE TABLE restores (
    id             INTEGER PRIMARY KEY,
    restored_at_ms INTEGER NOT NULL,
    who            TEXT NOT NULL,
    finished_at_ms INTEGER
);

-- How large the file was, once an hour for two weeks: how long the disk will last.
CREATE TABLE sizes (
    at_ms      INTEGER PRIMARY KEY,
    used_bytes INTEGER NOT NULL
);
