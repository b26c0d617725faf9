-- When somebody was last there: with a call of the API, and with an open session
-- (the first instant of the last minute in which one was open).
CREATE TABLE activity_users (
	user_id    TEXT PRIMARY KEY REFERENCES catalog_users (id) ON DELETE CASCADE,
	api_at     BIGINT NOT NULL,
	session_at BIGINT NOT NULL
);

-- One row: up to which hour (since 1970) the ledger's history was read.
CREATE TABLE activity_progress (
	id   BIGINT PRIMARY KEY,
	hour BIGINT NOT NULL
);
