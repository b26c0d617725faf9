-- Sequences that newer totals passed over and that have not arrived since.
ALTER TABLE ledger_epochs ADD COLUMN gaps {{blob}} NOT NULL DEFAULT '';
ALTER TABLE ledger_agents ADD COLUMN missing BIGINT NOT NULL DEFAULT 0;

-- Deleted workspaces: what arrives late must not begin their totals again.
CREATE TABLE ledger_forgotten (
	workspace_id TEXT PRIMARY KEY,
	at           BIGINT NOT NULL
);
