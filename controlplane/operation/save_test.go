package operation_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/operation"
)

// What a step saves is there when it runs again, after an error and after a
// wait; what it did not save is not.
func TestSavedInTheMiddleOfAStep(t *testing.T) {
	t.Parallel()
	e := start(t, catalogtest.Open(t), operation.Step[doc]{Name: "one", Do: func(_ context.Context, r *operation.Run[doc]) error {
		r.Data.N++
		if err := r.SetReceipt(map[string]int{"n": r.Data.N}); err != nil {
			return err
		}
		if err := r.Save(); err != nil {
			return err
		}
		r.Data.Notes = append(r.Data.Notes, "not saved before the end")
		switch r.Data.N {
		case 1:
			return errors.New("a mishap")
		case 2:
			return operation.Wait(time.Millisecond, "a moment")
		}
		return nil
	}})
	op := ended(t, e, begin(t, e, operation.Spec{}).ID)
	require.Equal(t, operation.Done, op.State, op.Error)
	require.Equal(t, []string{"not saved before the end"}, notes(t, op))
	require.JSONEq(t, `{"n": 3}`, string(op.Receipt))
}

func TestListOfWhatIsAskedOfAnOperation(t *testing.T) {
	t.Parallel()
	type asking struct {
		Of string `json:"of"`
	}
	e := operation.New(catalogtest.Open(t), operation.Options{Logger: quiet})
	operation.Register(e, operation.Kind[asking]{Name: "asking", Steps: []operation.Step[asking]{{Name: "one", Do: func(context.Context, *operation.Run[asking]) error { return nil }}}})
	var want string
	for _, of := range []string{"x", "y", "x"} {
		op, err := e.Start(testContext(t), operation.Spec{Kind: "asking", Data: asking{of}})
		require.NoError(t, err)
		if of == "y" {
			want = op.ID
		}
	}
	ops, _, err := e.List(testContext(t), operation.Filter{Of: "y"}, catalog.Page{})
	require.NoError(t, err)
	require.Len(t, ops, 1)
	require.Equal(t, want, ops[0].ID)
	require.True(t, json.Valid(ops[0].Data))
	ops, _, err = e.List(testContext(t), operation.Filter{}, catalog.Page{})
	require.NoError(t, err)
	require.Len(t, ops, 3)
}
