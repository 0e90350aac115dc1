-- The wall clock as it was seen last, and the time that things are let go of by, which goes on with what has really passed. `from_ms`,
-- `to_ms`: what the wall clock showed while it was in doubt, NULL where it is not; `agreed_ms`: for how long it has gone evenly since.
CREATE TABLE clock (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    seen_ms    INTEGER NOT NULL,
    trusted_ms INTEGER NOT NULL,
    agreed_ms  INTEGER NOT NULL,
    from_ms    INTEGER,
    to_ms      INTEGER
);
