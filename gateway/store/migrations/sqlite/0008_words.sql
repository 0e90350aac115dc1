-- One word for one thing: `maybe_delivered` as in the outbox, also for a command; the version of an event is checked by its content.
ALTER TABLE inbox RENAME COLUMN compared TO content_checked;
ALTER TABLE submit RENAME COLUMN repeated TO maybe_delivered;
-- The ordering key of a command is its source and subject; a unique subject has one current command.
DROP INDEX submit_lanes;
CREATE INDEX submit_by_subject ON submit (source, subject, id) WHERE status IN ('ready', 'leased', 'unknown');
DROP INDEX submit_sole;
CREATE UNIQUE INDEX submit_current ON submit (source, subject)
    WHERE unique_subject = 1 AND status <> 'dead' AND coalesce(outcome, '') <> 'dropped';
