package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/worktally/worktally/internal/pgtest"
)

// TestReplicas_BuildsAreTold: what comes from the database is the same on all
// servers, builds within a second of a change (docs/metrics.md, docs/scrape.md). The
// control plane tells one server, Prometheus asks another for /metrics/deployment.
func TestReplicas_BuildsAreTold(t *testing.T) {
	var cluster pgtest.Cluster
	dsn := cluster.DSN(t)
	t.Cleanup(cluster.Stop)
	secrets := filepath.Join(t.TempDir(), "secrets")
	must(t, os.WriteFile(secrets, []byte(strings.Repeat("k", 32)), 0o600))
	one := func() *controlPlane { return newControlPlaneOf(t, Options{DatabaseDSN: dsn, SecretsKeyFile: secrets}) }
	a, b := one(), one()
	const workspace, build = "10000000-0000-4000-8000-000000000000", "20000000-0000-4000-8000-000000000000"
	a.send("POST", "import", `{"workspace":{"id":"`+workspace+`","owner":"admin","name":"dev","template":{"name":"go"}}}`)
	time.Sleep(2 * time.Second)
	a.send("PUT", "builds/"+build, `{"workspace_id":"`+workspace+`","transition":"start","status":"succeeded"}`)
	const counted = `worktally_builds_total{status="success",workspace_transition="START"} 1`
	began := time.Now()
	poll(t, "the build on both servers", func() bool {
		return strings.Contains(a.page(), counted) && strings.Contains(b.page(), counted)
	})
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("both servers showed the build after %s", took.Round(time.Second))
	}
}
