package main

import (
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/upkeep"
)

func TestSweepSaysWhatItRemoved(t *testing.T) {
	ended := upkeep.EndedEpoch{Epoch: "2026-11-30.abcdefgh", Key: true, Files: 1, Bytes: 1000}
	for want, tt := range map[string]struct {
		swept upkeep.Swept
		dry   bool
	}{
		"": {},
		"epoch 2026-11-30.abcdefgh is over: its key destroyed, and 1 file (1 KB) deleted\n":                   {swept: upkeep.Swept{Ended: []upkeep.EndedEpoch{ended}}},
		"epoch 2026-11-30.abcdefgh is over: its key would be destroyed, and 1 file (1 KB) would be deleted\n": {swept: upkeep.Swept{Ended: []upkeep.EndedEpoch{ended}}, dry: true},
		"1 revoked file: its key destroyed, and the file deleted\n":                                           {swept: upkeep.Swept{Destroyed: 1}},
		"2 revoked files: their keys would be destroyed, and the files would be deleted\n":                    {swept: upkeep.Swept{Destroyed: 2}, dry: true},
		"1 file of interrupted mails deleted\n":                                                               {swept: upkeep.Swept{Recovered: make([]cid.Cid, 1)}},
		"the list of epoch 2025-11-30.abcdefgh removed\n":                                                     {swept: upkeep.Swept{Forgotten: []crypto.Epoch{"2025-11-30.abcdefgh"}}},
	} {
		var got strings.Builder
		if printSwept(&got, tt.swept, tt.dry); got.String() != want {
			t.Errorf("got %q, want %q", got.String(), want)
		}
	}
}
