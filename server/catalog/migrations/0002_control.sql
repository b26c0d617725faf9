ALTER TABLE catalog_users ADD COLUMN email TEXT NOT NULL DEFAULT '';

-- What a control plane tells about templates. Workspaces and builds name them by
-- name, known here or not.
CREATE TABLE catalog_templates (
	id         TEXT PRIMARY KEY,
	name       TEXT NOT NULL UNIQUE,
	updated_at BIGINT NOT NULL
);

CREATE TABLE catalog_template_versions (
	id          TEXT PRIMARY KEY,
	template_id TEXT NOT NULL REFERENCES catalog_templates (id) ON DELETE CASCADE,
	name        TEXT NOT NULL,
	parameters  TEXT NOT NULL,          -- JSON
	updated_at  BIGINT NOT NULL,
	UNIQUE (template_id, name)
);

-- The newest builds of each workspace, as far as events have told.
CREATE TABLE catalog_builds (
	id               TEXT PRIMARY KEY,
	workspace_id     TEXT NOT NULL REFERENCES catalog_workspaces (id) ON DELETE CASCADE,
	number           BIGINT NOT NULL,
	transition       TEXT NOT NULL,
	template_name    TEXT NOT NULL,
	template_version TEXT NOT NULL,
	provisioner      TEXT NOT NULL,
	parameters       TEXT NOT NULL,     -- JSON; values only of those that were marked safe
	status           TEXT NOT NULL,
	created_at       BIGINT NOT NULL,
	started_at       BIGINT NOT NULL,
	ended_at         BIGINT NOT NULL,
	timed            BIGINT NOT NULL,   -- its duration was counted
	UNIQUE (workspace_id, number)
);
CREATE INDEX catalog_builds_created ON catalog_builds (created_at);
CREATE INDEX catalog_builds_open ON catalog_builds (started_at) WHERE ended_at = 0;

-- A row per workspace that has builds; whoever changes its builds or totals locks
-- it first. Builds up to number "forgotten" were dropped and never count again.
CREATE TABLE catalog_build_heads (
	workspace_id TEXT PRIMARY KEY REFERENCES catalog_workspaces (id) ON DELETE CASCADE,
	latest       BIGINT NOT NULL,
	forgotten    BIGINT NOT NULL
);

-- Builds that ended, for the series of each workspace.
CREATE TABLE catalog_build_totals (
	workspace_id     TEXT NOT NULL REFERENCES catalog_workspaces (id) ON DELETE CASCADE,
	transition       TEXT NOT NULL,
	status           TEXT NOT NULL,
	template_name    TEXT NOT NULL,
	template_version TEXT NOT NULL,
	value            BIGINT NOT NULL,
	updated_at       BIGINT NOT NULL,
	PRIMARY KEY (workspace_id, transition, status, template_name, template_version)
);

CREATE TABLE catalog_jobs (
	id          TEXT PRIMARY KEY,
	provisioner TEXT NOT NULL,
	status      TEXT NOT NULL,
	created_at  BIGINT NOT NULL,
	started_at  BIGINT NOT NULL,
	ended_at    BIGINT NOT NULL,
	timed       BIGINT NOT NULL
);
CREATE INDEX catalog_jobs_created ON catalog_jobs (created_at);
CREATE INDEX catalog_jobs_open ON catalog_jobs (started_at) WHERE ended_at = 0;

-- Counts of the whole deployment, for ever.
CREATE TABLE catalog_counts (
	name   TEXT NOT NULL,
	first  TEXT NOT NULL,
	second TEXT NOT NULL,
	value  DOUBLE PRECISION NOT NULL,
	PRIMARY KEY (name, first, second)
);
