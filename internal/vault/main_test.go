package vault_test

import (
	"os"
	"testing"

	"github.com/freehold-db/freehold/internal/leaktest"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m.Run)) }
