-- Log sources that programs in the workspace added, besides those of scripts.
CREATE TABLE catalog_log_sources (
	agent_id     TEXT NOT NULL REFERENCES catalog_agents (id) ON DELETE CASCADE,
	source_id    TEXT NOT NULL,
	display_name TEXT NOT NULL,
	icon         TEXT NOT NULL,
	created_at   BIGINT NOT NULL,
	PRIMARY KEY (agent_id, source_id)
);
