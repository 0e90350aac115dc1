-- The way back: commands for a vendor, as `submit:17` or by their public id. Statuses and due times as in the outbox; a lane is
-- what one source has under way for one subject. `sole`: nothing else that is sole may stand for the subject, unless it is dead
-- or was dropped. `said_sha256`: of what source, command and body say, whatever their spelling; `sha256`: of the body as it came. `repeated`: some attempt
-- may have reached the vendor, whatever has been found out since.
CREATE TABLE submit (
    id               INTEGER PRIMARY KEY,
    public_id        TEXT NOT NULL,
    caller           TEXT NOT NULL,
    key              TEXT NOT NULL,
    source           TEXT NOT NULL,
    command          TEXT NOT NULL,
    subject          TEXT,
    sole             INTEGER NOT NULL DEFAULT 0,
    status           TEXT NOT NULL,
    due_at_ms        INTEGER,
    attempts         INTEGER NOT NULL DEFAULT 0,
    lease            INTEGER,
    sending          INTEGER,
    accepted_at_ms   INTEGER NOT NULL,
    first_attempt_ms INTEGER,
    settled_at_ms    INTEGER,
    outcome          TEXT,
    reason           TEXT,
    unknown_since_ms INTEGER,
    looks            INTEGER NOT NULL DEFAULT 0,
    repeated         INTEGER NOT NULL DEFAULT 0,
    said_sha256      BLOB NOT NULL,
    sha256           BLOB NOT NULL,
    body             BLOB,
    answer           BLOB,
    codes            BLOB,
    CHECK (status <> 'leased' OR due_at_ms IS NULL)
);
CREATE UNIQUE INDEX submit_by_public_id ON submit (public_id);
CREATE UNIQUE INDEX submit_by_key ON submit (caller, key);
CREATE UNIQUE INDEX submit_sole ON submit (source, subject) WHERE sole = 1 AND status <> 'dead' AND coalesce(outcome, '') <> 'dropped';
CREATE INDEX submit_lanes ON submit (source, subject, id) WHERE status IN ('ready', 'leased', 'unknown');
CREATE INDEX submit_active ON submit (source, due_at_ms, id, status) WHERE status IN ('ready', 'leased', 'unknown');
CREATE INDEX submit_waiting ON submit (status, source) WHERE status IN ('held', 'dead');
CREATE INDEX submit_erasable ON submit (settled_at_ms) WHERE status = 'done' AND coalesce(body, answer, codes) IS NOT NULL;
