-- Instants are milliseconds since 1970, UTC. Statuses: ready leased done held dead.
-- `due_at_ms` NULL on a ready row: an earlier row of its order is still open, and this one waits behind it.
-- `lease` is the fencing token of the one attempt that may settle a leased row.

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
CREATE TABLE orders (
    id         INTEGER PRIMARY KEY,
    source     TEXT NOT NULL,
    order_ref  TEXT NOT NULL,
    versions   INTEGER NOT NULL,
    messages   INTEGER NOT NULL DEFAULT 0,
    content    BLOB,
    newest_key TEXT NOT NULL
);
CREATE UNIQUE INDEX orders_by_ref ON orders (source, order_ref);

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
    reference      TEXT,
    occurred_at_ms INTEGER,
    received_at_ms INTEGER NOT NULL,
    settled_at_ms  INTEGER,
    outcome        TEXT,
    reason         TEXT,
    sha256         BLOB,
    document       BLOB
);
CREATE UNIQUE INDEX inbox_by_key ON inbox (source, key, version);
CREATE INDEX inbox_ready ON inbox (source, due_at_ms, id) WHERE status = 'ready';
CREATE INDEX inbox_open ON inbox (order_id, id) WHERE status <> 'done';

CREATE TABLE outbox (
    id               INTEGER PRIMARY KEY,
    target           TEXT NOT NULL,
    key              TEXT NOT NULL,
    kind             TEXT NOT NULL,
    order_id         INTEGER NOT NULL REFERENCES orders (id),
    inbox_id         INTEGER NOT NULL REFERENCES inbox (id),
    status           TEXT NOT NULL,
    due_at_ms        INTEGER,
    attempts         INTEGER NOT NULL DEFAULT 0,
    lease            INTEGER,
    maybe_taken      INTEGER NOT NULL DEFAULT 0,
    held_for         INTEGER REFERENCES inbox (id),
    created_at_ms    INTEGER NOT NULL,
    first_attempt_ms INTEGER,
    settled_at_ms    INTEGER,
    outcome          TEXT,
    reason           TEXT,
    sha256           BLOB NOT NULL,
    body             BLOB
);
CREATE UNIQUE INDEX outbox_by_key ON outbox (target, key);
CREATE INDEX outbox_ready ON outbox (target, due_at_ms, id) WHERE status = 'ready';
CREATE INDEX outbox_open ON outbox (order_id, target, id) WHERE status <> 'done';
CREATE INDEX outbox_by_inbox ON outbox (inbox_id);

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
    reason           TEXT
);
CREATE UNIQUE INDEX acknowledgements_by_stage ON acknowledgements (inbox_id, stage);
CREATE INDEX acknowledgements_ready ON acknowledgements (source, due_at_ms, id) WHERE status = 'ready';
CREATE INDEX acknowledgements_open ON acknowledgements (status) WHERE status <> 'done';

-- What was tried, for the operator. `queue`: inbox, outbox or acknowledgements.
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
