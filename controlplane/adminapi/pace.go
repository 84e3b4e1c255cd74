package adminapi

import (
	"context"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/move/pace"
	"github.com/freehold-db/freehold/controlplane/operation"
)

// minRate is the least that a copy may be bounded to, in bytes a second: slower
// than that the WAL that the source keeps grows faster than the copy.
const minRate = 64 << 10

// checkRate reads the bound of a copy; 0 is none.
func checkRate(perS int64) error {
	if perS != 0 && perS < minRate {
		return invalidBody().At("/max_bytes_per_s", "is not 0, nor 65536 or more")
	}
	return nil
}

// readMode reads whether a copy minds others; empty says nothing of it.
func readMode(in string) (pace.Mode, error) {
	if mode := pace.Mode(in); in == "" || mode.Known() {
		return mode, nil
	}
	return "", invalidBody().At("/pace", "is neither considerate nor full")
}

// setPace has a copy that is under way go faster or slower.
func (a *API) setPace(ctx context.Context, c *call) (answer, error) {
	id, err := c.operationID()
	if err != nil {
		return answer{}, err
	}
	var in api.Pace
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	wish := pace.Wish{MaxRate: in.MaxBytesPerS}
	if wish.Mode, err = readMode(in.Pace); err != nil {
		return answer{}, err
	}
	if in.MaxBytesPerS == nil && in.Pace == "" {
		return answer{}, invalidBody().At("", "asks for nothing: give max_bytes_per_s, pace, or both")
	}
	if in.MaxBytesPerS != nil {
		if err := checkRate(*in.MaxBytesPerS); err != nil {
			return answer{}, err
		}
	}
	return begun(a.Moves.SetPace(ctx, id, wish, c.actor))
}

// paceDoc is the pace that was asked of an operation; nil: none.
func paceDoc(op *operation.Operation) *api.Pace {
	wish, err := pace.ReadWish(op.Asked)
	if err != nil || wish == (pace.Wish{}) {
		return nil
	}
	return &api.Pace{MaxBytesPerS: wish.MaxRate, Pace: string(wish.Mode)}
}
