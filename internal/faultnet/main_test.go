package faultnet

import (
	"testing"

	"github.com/worktally/worktally/internal/testtool"
)

func TestMain(m *testing.M) { testtool.Main(m) }
