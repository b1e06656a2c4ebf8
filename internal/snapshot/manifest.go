package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// formatVersion is that of the folder of a snapshot. A newer one is refused.
const formatVersion = 1

// manifest is manifest.json. What stands in the open is enough to list snapshots and to see that their parts are there; it holds no name
// and no digest of anything that people wrote. The rest is sealed, together with a digest of what stands in the open: whoever has the key
// finds out about every figure that was changed.
type manifest struct {
	open
	Sealed []byte `json:"sealed"` // details, as JSON, encrypted with age
}

// open is the part of a manifest that everybody may read.
type open struct {
	Format  int                   `json:"format"`
	ID      string                `json:"id"`
	Stage   deploy.StageRef       `json:"stage"`
	Why     deploy.SnapshotReason `json:"why"`
	Rollout string                `json:"rollout,omitempty"`
	Release deploy.Digest         `json:"release,omitempty"`
	At      time.Time             `json:"at"`
	Took    time.Duration         `json:"took"`             // nanoseconds
	Server  string                `json:"server,omitempty"` // "15.18"
	Major   int                   `json:"major,omitempty"`
	Tool    string                `json:"tool,omitempty"` // version of pg_dump
	Schema  string                `json:"schema,omitempty"`
	Rows    int64                 `json:"rows"`
	Tables  int                   `json:"tables"`
	Files   int64                 `json:"files"`
	Parts   []part                `json:"parts"`
}

// part is one encrypted file of a snapshot.
type part struct {
	Name   string `json:"name"`   // below the snapshot's folder
	Plain  int64  `json:"plain"`  // bytes, before compression
	Size   int64  `json:"size"`   // bytes, as kept
	SHA256 string `json:"sha256"` // of the bytes as kept
	Took   int64  `json:"took"`   // nanoseconds
}

// details are what is compared when a snapshot comes back.
type details struct {
	Open       string            `json:"open"`               // sha256 of the open part, as JSON
	Database   *databaseDetails  `json:"database,omitempty"` // nil: there was none
	Tables     []tableDetails    `json:"tables"`
	Sequences  map[string]string `json:"sequences"` // "LAST,CALLED"
	Objects    []object          `json:"objects"`
	Extensions []extension       `json:"extensions"`
	Roles      []string          `json:"roles"` // that objects belong to, or that rights and policies name
	Volumes    []volumeDetails   `json:"volumes"`
}

type databaseDetails struct {
	Name     string `json:"name"`
	Encoding string `json:"encoding"`
	Collate  string `json:"collate"`
	CType    string `json:"ctype"`
}

type tableDetails struct {
	Name string `json:"name"`
	Rows int64  `json:"rows"`
	Sum  string `json:"sum"`
}

type extension struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Schema  string `json:"schema"`
}

type volumeDetails struct {
	Name    string   `json:"name"`
	Part    string   `json:"part"`
	Files   int64    `json:"files"`
	Bytes   int64    `json:"bytes"`
	Sum     string   `json:"sum"`
	Changed []string `json:"changed,omitempty"` // files that changed while they were read, or are of a kind that is not kept
}

func (o open) digest() string {
	text, _ := json.Marshal(o) // plain values
	all := sha256.Sum256(text)
	return hex.EncodeToString(all[:])
}

// sealManifest makes the text of manifest.json.
func sealManifest(o open, d details, recipients []age.Recipient) ([]byte, error) {
	d.Open = o.digest()
	text, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, recipients...)
	if err == nil {
		_, err = w.Write(text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(manifest{o, sealed.Bytes()}, "", "  ")
}

// parseManifest reads what anybody can read of manifest.json.
func parseManifest(text []byte, id string) (m manifest, err error) {
	var version struct{ Format int }
	if json.Unmarshal(text, &version) == nil && version.Format > formatVersion {
		return m, deploy.Hint(fmt.Errorf("%w: the snapshot %s has format %d, and this Lotse reads up to %d", deploy.ErrUnsupported, id, version.Format, formatVersion), "use the newer Lotse that took it")
	}
	if err := json.Unmarshal(text, &m); err != nil || m.Format < 1 {
		return m, fmt.Errorf("%w: %s of the snapshot %s cannot be read", deploy.ErrDamaged, manifestName, id)
	}
	if m.ID != id {
		return m, fmt.Errorf("%w: %s of the snapshot %s is of another snapshot", deploy.ErrDamaged, manifestName, id)
	}
	return m, nil
}

// details opens the sealed part, and holds what stands in the open against it.
func (m manifest) details(keys []age.Identity) (d details, err error) {
	p := part{Name: manifestName}
	read := &counting{from: bytes.NewReader(m.Sealed), hash: sha256.New()}
	r, err := age.Decrypt(read, keys...)
	if err != nil {
		return d, p.wrong(err, read)
	}
	text, err := io.ReadAll(&marked{r})
	if err != nil {
		return d, p.wrong(err, read)
	}
	if json.Unmarshal(text, &d) != nil || d.Open != m.digest() {
		return d, fmt.Errorf("%w: %s was changed: a figure in it is not the one that was sealed", deploy.ErrDamaged, manifestName)
	}
	return d, nil
}

// snapshot is what is told of it.
func (o open) snapshot(where string) deploy.Snapshot {
	s := deploy.Snapshot{ID: o.ID, Stage: o.Stage, Why: o.Why, Rollout: o.Rollout, Release: o.Release, At: o.At, Took: o.Took, Server: o.Server, Schema: o.Schema, Rows: o.Rows, Tables: o.Tables, Files: o.Files, Where: where}
	for _, p := range o.Parts {
		s.Size += p.Size
		s.Content += p.Plain
		if name, is := strings.CutPrefix(strings.TrimSuffix(p.Name, volumeSuffix), volumesDir+"/"); is {
			s.Volumes = append(s.Volumes, name)
		}
	}
	return s
}
