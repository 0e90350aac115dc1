-- What a person holds stays held, over reload, restart and kill, until a person releases it.
CREATE TABLE target_holds (
    target TEXT PRIMARY KEY,
    who    TEXT NOT NULL,
    at_ms  INTEGER NOT NULL,
    reason TEXT
) WITHOUT ROWID;

-- A target that was renamed: what `old` was sent, `new` has.
CREATE TABLE target_renames (
    old TEXT PRIMARY KEY,
    new TEXT NOT NULL
) WITHOUT ROWID;
