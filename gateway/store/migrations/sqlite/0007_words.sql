-- The field's words for what nobody knows: whether a request that left was done.
ALTER TABLE outbox RENAME COLUMN maybe_taken TO maybe_delivered;
ALTER TABLE outbox RENAME COLUMN sending TO request_started;
ALTER TABLE outbox RENAME COLUMN unknown_since_ms TO in_doubt_since_ms;
ALTER TABLE outbox RENAME COLUMN looks TO lookup_attempts;
ALTER TABLE outbox RENAME COLUMN strikes TO ambiguous_failures;
ALTER TABLE submit RENAME COLUMN sending TO request_started;
ALTER TABLE submit RENAME COLUMN unknown_since_ms TO in_doubt_since_ms;
ALTER TABLE submit RENAME COLUMN looks TO lookup_attempts;
ALTER TABLE submit RENAME COLUMN sole TO unique_subject;
ALTER TABLE submit RENAME COLUMN said_sha256 TO content_sha256;
