CREATE TABLE catalog_users (
	id         TEXT PRIMARY KEY,
	username   TEXT NOT NULL UNIQUE,
	token_hash TEXT NOT NULL UNIQUE,
	admin      BIGINT NOT NULL,
	created_at BIGINT NOT NULL
);

-- A deleted workspace keeps its row, without agents, as long as history may
-- mention it.
CREATE TABLE catalog_workspaces (
	id               TEXT PRIMARY KEY,
	owner_id         TEXT NOT NULL REFERENCES catalog_users (id),
	name             TEXT NOT NULL,
	template_name    TEXT NOT NULL,
	template_version TEXT NOT NULL,
	created_at       BIGINT NOT NULL,
	deleted_at       BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX catalog_workspaces_name ON catalog_workspaces (owner_id, name) WHERE deleted_at = 0;

-- What was asked for. The spec is JSON.
CREATE TABLE catalog_agents (
	id           TEXT PRIMARY KEY,
	workspace_id TEXT NOT NULL REFERENCES catalog_workspaces (id),
	name         TEXT NOT NULL,
	token_hash   TEXT NOT NULL UNIQUE,
	spec         TEXT NOT NULL,
	UNIQUE (workspace_id, name)
);

-- What the agent told, and counters for its logs. Apart from the spec, because
-- it changes every few seconds.
CREATE TABLE catalog_states (
	agent_id             TEXT PRIMARY KEY REFERENCES catalog_agents (id) ON DELETE CASCADE,
	api_version          TEXT NOT NULL DEFAULT '',
	version              TEXT NOT NULL DEFAULT '',
	expanded_directory   TEXT NOT NULL DEFAULT '',
	subsystems           TEXT NOT NULL DEFAULT '[]',
	lifecycle            BIGINT NOT NULL DEFAULT 1,
	lifecycle_changed_at BIGINT NOT NULL DEFAULT 0,
	started_at           BIGINT NOT NULL DEFAULT 0,
	ready_at             BIGINT NOT NULL DEFAULT 0,
	first_connected_at   BIGINT NOT NULL DEFAULT 0,
	last_connected_at    BIGINT NOT NULL DEFAULT 0,
	disconnected_at      BIGINT NOT NULL DEFAULT 0,
	log_seq              BIGINT NOT NULL DEFAULT 0,
	log_bytes            BIGINT NOT NULL DEFAULT 0,
	logs_overflowed      BIGINT NOT NULL DEFAULT 0,
	timing_seq           BIGINT NOT NULL DEFAULT 0,
	connection_seq       BIGINT NOT NULL DEFAULT 0,
	resources            {{blob}}
);

CREATE TABLE catalog_apps (
	agent_id TEXT NOT NULL REFERENCES catalog_agents (id) ON DELETE CASCADE,
	app_id   TEXT NOT NULL,
	name     TEXT NOT NULL,
	checked  BIGINT NOT NULL,
	health   BIGINT NOT NULL,
	PRIMARY KEY (agent_id, app_id)
);

CREATE TABLE catalog_metadata (
	agent_id     TEXT NOT NULL REFERENCES catalog_agents (id) ON DELETE CASCADE,
	name         TEXT NOT NULL,
	value        TEXT NOT NULL DEFAULT '',
	error        TEXT NOT NULL DEFAULT '',
	collected_at BIGINT NOT NULL DEFAULT 0,
	PRIMARY KEY (agent_id, name)
);

CREATE TABLE catalog_logs (
	agent_id   TEXT NOT NULL REFERENCES catalog_agents (id) ON DELETE CASCADE,
	seq        BIGINT NOT NULL,
	source_id  TEXT NOT NULL,
	created_at BIGINT NOT NULL,
	level      BIGINT NOT NULL,
	output     TEXT NOT NULL,
	PRIMARY KEY (agent_id, seq)
);

CREATE TABLE catalog_timings (
	agent_id  TEXT NOT NULL REFERENCES catalog_agents (id) ON DELETE CASCADE,
	seq       BIGINT NOT NULL,
	script_id TEXT NOT NULL,
	start_at  BIGINT NOT NULL,
	end_at    BIGINT NOT NULL,
	exit_code BIGINT NOT NULL,
	stage     BIGINT NOT NULL,
	status    BIGINT NOT NULL,
	PRIMARY KEY (agent_id, seq)
);

CREATE TABLE catalog_connections (
	agent_id      TEXT NOT NULL REFERENCES catalog_agents (id) ON DELETE CASCADE,
	seq           BIGINT NOT NULL,
	connection_id TEXT NOT NULL,
	action        BIGINT NOT NULL,
	type          BIGINT NOT NULL,
	app_name      TEXT NOT NULL,
	ip            TEXT NOT NULL,
	status_code   BIGINT NOT NULL,
	reason        TEXT NOT NULL,
	at            BIGINT NOT NULL,
	PRIMARY KEY (agent_id, seq)
);
