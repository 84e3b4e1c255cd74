package provision

import "time"

func init() { tendEvery = 300 * time.Millisecond }
