-- The newest state of every agent. revision changes with every write and guards
-- the row; everything else about the agent changes only together with it.
CREATE TABLE ledger_agents (
	workspace_id  TEXT NOT NULL,
	agent_name    TEXT NOT NULL,
	revision      BIGINT NOT NULL,
	owner_id      TEXT NOT NULL,
	template_name TEXT NOT NULL,
	anchor        TEXT NOT NULL,     -- the epoch created last
	created       BIGINT NOT NULL,   -- epochs created so far
	open_epochs   BIGINT NOT NULL,   -- how many of them are not closed
	others        {{blob}} NOT NULL, -- sum of the totals of all epochs but the anchor
	epoch         TEXT NOT NULL,     -- from here on: the newest window
	sequence      BIGINT NOT NULL,
	end_at        BIGINT NOT NULL,
	length_us     BIGINT NOT NULL,
	arrived_at    BIGINT NOT NULL,
	interval_us   BIGINT NOT NULL,
	gauges        {{blob}} NOT NULL,
	recent        {{blob}} NOT NULL,
	hour          BIGINT NOT NULL,   -- copy of the newest history row
	minutes       {{blob}} NOT NULL,
	PRIMARY KEY (workspace_id, agent_name)
);

-- Totals by epoch. A closed epoch keeps its row, without totals, so that its
-- late windows are recognised.
CREATE TABLE ledger_epochs (
	workspace_id TEXT NOT NULL,
	agent_name   TEXT NOT NULL,
	epoch        TEXT NOT NULL,
	ordinal      BIGINT NOT NULL,
	sequence     BIGINT NOT NULL,
	skipped      BIGINT NOT NULL,   -- sequences that never brought totals
	closed       BIGINT NOT NULL,
	arrived_at   BIGINT NOT NULL,
	totals       {{blob}} NOT NULL,
	absolutes    {{blob}} NOT NULL, -- last absolute values of a stock agent
	PRIMARY KEY (workspace_id, agent_name, epoch)
);

-- All agents together, for ever.
CREATE TABLE ledger_deployment (
	name   TEXT NOT NULL,
	labels TEXT NOT NULL,           -- JSON array of names and values
	value  DOUBLE PRECISION NOT NULL,
	PRIMARY KEY (name, labels)
);

-- Presence, a row per agent and hour (hours since 1970).
CREATE TABLE ledger_history (
	hour          BIGINT NOT NULL,
	workspace_id  TEXT NOT NULL,
	agent_name    TEXT NOT NULL,
	owner_id      TEXT NOT NULL,
	template_name TEXT NOT NULL,
	minutes       {{blob}} NOT NULL,
	PRIMARY KEY (hour, workspace_id, agent_name)
);
