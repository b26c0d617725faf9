package ledger

// The statements of the writer. They are prepared once, because they run for
// every report.
const (
	selectAgent = `SELECT revision, anchor, created, open_epochs, others, missing, ` + latestColumns + `, hour, minutes
		FROM ledger_agents WHERE workspace_id = $1 AND agent_name = $2`

	latestColumns = `owner_id, template_name, epoch, sequence, end_at, length_us, arrived_at, interval_us, gauges, recent`

	updateAgent = `UPDATE ledger_agents SET revision = revision + 1, anchor = $4, created = $5, open_epochs = $6, others = $7,
		owner_id = $8, template_name = $9, epoch = $10, sequence = $11, end_at = $12, length_us = $13, arrived_at = $14,
		interval_us = $15, gauges = $16, recent = $17, hour = $18, minutes = $19, missing = $20
		WHERE workspace_id = $1 AND agent_name = $2 AND revision = $3`

	insertAgent = `INSERT INTO ledger_agents (workspace_id, agent_name, revision, anchor, created, open_epochs, others, ` + latestColumns + `, hour, minutes, missing)
		VALUES ($1, $2, $3 + 1, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20) ON CONFLICT DO NOTHING`

	selectForgotten = `SELECT COUNT(*) FROM ledger_forgotten WHERE workspace_id = $1`

	selectEpoch = `SELECT ordinal, sequence, skipped, closed, arrived_at, totals, absolutes, gaps
		FROM ledger_epochs WHERE workspace_id = $1 AND agent_name = $2 AND epoch = $3`

	selectOpen = `SELECT epoch, ordinal, sequence, skipped, arrived_at
		FROM ledger_epochs WHERE workspace_id = $1 AND agent_name = $2 AND closed = 0`

	updateEpoch = `UPDATE ledger_epochs SET sequence = $5, skipped = $6, closed = $7, arrived_at = $8, totals = $9, absolutes = $10, gaps = $11
		WHERE workspace_id = $1 AND agent_name = $2 AND epoch = $3 AND sequence = $4`

	insertEpoch = `INSERT INTO ledger_epochs (workspace_id, agent_name, epoch, ordinal, sequence, skipped, closed, arrived_at, totals, absolutes, gaps)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`

	forgetClosed = `DELETE FROM ledger_epochs WHERE workspace_id = $1 AND agent_name = $2 AND closed = 1 AND ordinal <
		(SELECT MIN(ordinal) FROM (SELECT ordinal FROM ledger_epochs
			WHERE workspace_id = $1 AND agent_name = $2 AND closed = 1 ORDER BY ordinal DESC LIMIT $3) AS kept)`

	selectHour = `SELECT minutes FROM ledger_history WHERE hour = $1 AND workspace_id = $2 AND agent_name = $3`

	upsertHour = `INSERT INTO ledger_history (hour, workspace_id, agent_name, owner_id, template_name, minutes)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (hour, workspace_id, agent_name)
		DO UPDATE SET owner_id = excluded.owner_id, template_name = excluded.template_name, minutes = excluded.minutes`

	upsertTotal = `INSERT INTO ledger_deployment (name, labels, value) VALUES ($1, $2, $3)
		ON CONFLICT (name, labels) DO UPDATE SET value = ledger_deployment.value + excluded.value`

	updateTotal = `UPDATE ledger_deployment SET value = value + $3 WHERE name = $1 AND labels = $2`
)

// statements are all of them, for preparing.
func statements() []string {
	return []string{selectAgent, updateAgent, insertAgent, selectForgotten, selectEpoch, selectOpen, updateEpoch, insertEpoch,
		forgetClosed, selectHour, upsertHour, upsertTotal, updateTotal}
}
