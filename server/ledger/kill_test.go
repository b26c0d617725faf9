package ledger

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/worktally/worktally/internal/sqldb"
)

// TestLedger_KillNine kills a process that commits at random moments: what it had
// acknowledged is stored, once, and the next process goes on from there.
func TestLedger_KillNine(t *testing.T) {
	if path := os.Getenv("LEDGER_TEST_PATH"); path != "" {
		commitUntilKilled(path)
	}
	path := filepath.Join(t.TempDir(), "x.db")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var last uint64
	for round := range 8 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestLedger_KillNine$")
		cmd.Env = append(os.Environ(), "LEDGER_TEST_PATH="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, stop := bufio.NewScanner(out), 1+random.IntN(60)
		var kill *time.Timer
		for n := 0; lines.Scan(); n++ { // until its end is closed
			seq, err := strconv.ParseUint(strings.TrimPrefix(lines.Text(), "stored "), 10, 64)
			if err != nil {
				t.Fatalf("round %d: %q", round, lines.Text())
			}
			last = seq
			if n == stop {
				kill = time.AfterFunc(time.Duration(random.IntN(3000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
			}
		}
		_ = cmd.Wait() // it was killed
		cancel()
		if kill == nil {
			t.Fatalf("round %d: the process ended by itself after %d", round, last)
		}
		r := start(t, path, Options{})
		got, err := r.LastSequence(t.Context(), wsA, "main", epoch1)
		if err != nil {
			t.Fatal(err)
		}
		if got < last {
			t.Fatalf("round %d: sequence %d was acknowledged, %d is stored", round, last, got)
		}
		r.wantDeployment(float64(10 * got))
		r.close()
		last = got
	}
}

// commitUntilKilled says what is stored as soon as it is acknowledged.
func commitUntilKilled(path string) {
	ctx := context.Background()
	check := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	db, err := sqldb.Guard{}.Open(ctx, path)
	check(err)
	l, err := Open(ctx, db, Options{})
	check(err)
	go func() { check(l.Run(ctx)) }()
	seq, err := l.LastSequence(ctx, wsA, "main", epoch1)
	check(err)
	for {
		seq++
		_, err := l.Commit(ctx, submission(time.Now(), window(epoch1, seq, float64(10*seq))))
		check(err)
		fmt.Println("stored", seq)
	}
}
