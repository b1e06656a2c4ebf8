package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/lotse-eu/lotse/internal/deploy"
)

const chainFormat = "lotse ledger 1"

// genesis is the hash before the first event.
const genesis = "0000000000000000000000000000000000000000000000000000000000000000"

// row is an event as it lies in the table: texts only, since the hash is over these very bytes.
type row struct {
	seq                                                       int64
	at, kind, app, stage, rollout, release, actor, data, hash string
}

const columns = "seq, at, kind, app, stage, rollout, release, actor, data, hash"

func (r *row) pointers() []any {
	return []any{&r.seq, &r.at, &r.kind, &r.app, &r.stage, &r.rollout, &r.release, &r.actor, &r.data, &r.hash}
}

// hashAfter computes the hash of the event from the one before. The package comment says how, so that others can.
func (r *row) hashAfter(before string) (string, error) {
	previous, err := hex.DecodeString(before)
	if err != nil || len(previous) != sha256.Size {
		return "", &Damage{Seq: r.seq - 1, Cause: "its hash is not a hash"}
	}
	h := sha256.New()
	h.Write(previous)
	for _, field := range []string{chainFormat, strconv.FormatInt(r.seq, 10), r.at, r.kind, r.app, r.stage, r.rollout, r.release, r.actor, r.data} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(field)))
		h.Write(length[:])
		h.Write([]byte(field))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// rowOf makes the texts of an event. Everything is refused that JSON would not give back byte for byte, since an auditor
// recomputes the hashes from the JSON.
func rowOf(e deploy.Event) (row, error) {
	r := row{kind: e.Kind, app: e.App, stage: e.Stage, rollout: e.Rollout, release: string(e.Release), actor: e.Actor}
	if e.Kind == "" {
		return r, fmt.Errorf("an event without kind: %w", deploy.ErrBadInput)
	}
	for _, field := range []string{r.kind, r.app, r.stage, r.rollout, r.release, r.actor} {
		if !utf8.ValidString(field) || strings.ContainsFunc(field, unicode.IsControl) {
			return r, fmt.Errorf("an event %q with a field that is not plain text: %w", e.Kind, deploy.ErrBadInput)
		}
	}
	if len(e.Data) == 0 {
		return r, nil
	}
	data, err := json.Marshal(e.Data)
	if err != nil || !utf8.Valid(data) {
		return r, fmt.Errorf("an event %q with data that is not JSON: %w", e.Kind, deploy.ErrBadInput)
	}
	r.data = string(data)
	return r, nil
}

// event is the reverse of rowOf.
func (r *row) event() (deploy.Event, error) {
	at, err := time.Parse(time.RFC3339Nano, r.at)
	if err != nil {
		return deploy.Event{}, &Damage{Seq: r.seq, Cause: "its time is not a time"}
	}
	e := deploy.Event{Seq: r.seq, At: at.UTC(), Kind: r.kind, App: r.app, Stage: r.stage, Rollout: r.rollout,
		Release: deploy.Digest(r.release), Actor: r.actor, Hash: r.hash}
	if r.data != "" {
		e.Data = json.RawMessage(r.data)
	}
	return e, nil
}
