package api

import (
	"encoding/json"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// The bodies of the wire: objects, so that a later version can add to them.
type (
	errorReply struct {
		Error *Error `json:"error"`
	}
	endRequest struct {
		Stage deploy.StageRef `json:"stage"`
		By    deploy.Person   `json:"by,omitzero"`
	}
	closedReply struct {
		Closed deploy.Closed `json:"closed"`
	}
	deployReply struct {
		ID string `json:"id"`
	}
	rolloutReply struct {
		Rollout deploy.Rollout `json:"rollout"`
	}
	rolloutsReply struct {
		Rollouts []deploy.Rollout `json:"rollouts"`
	}
	stagesReply struct {
		Stages []deploy.StageStatus `json:"stages"`
	}
	releaseReply struct {
		Release deploy.Release `json:"release"`
	}
	namesBody struct {
		IDs []string `json:"ids"`
	}
	namesReply struct {
		Names map[string]string `json:"names"`
	}
	nothing struct{}
)

// frame is one line of a stream; exactly one field is set.
type frame struct {
	Item  json.RawMessage `json:"item,omitempty"`
	End   bool            `json:"end,omitempty"`
	Error *Error          `json:"error,omitempty"`
}

const (
	maxBody  = 1 << 20  // bytes of a request's body
	maxReply = 64 << 20 // bytes of one reply, or of one line of a stream: a release lists all its files
)
