package deploy

import (
	"context"
	"time"

	"github.com/lotse-eu/lotse/internal/secret"
)

// Beside is what an engine has where a second set of a stage's data can stand beside the one that the stage works with: another database
// in the same cluster, other folders on the same disk. It has all that a restore does to data; a set is named by the id of its restore.
type Beside interface {
	// Volumes returns the folders of those of the volumes that the stage has.
	Volumes(ctx context.Context, names []string) (map[string]string, error)

	// Prepare makes an empty set and says where it is. What an earlier Prepare under the same id made is thrown away. ErrUnsupported, with what
	// to do instead as a hint and before anything is made, where there can be no second database.
	Prepare(ctx context.Context, fence Fence, set DataSet) (Data, error)

	// Swap gives the stage the prepared set, and keeps what the stage had under the same id. The address of the database stays what it
	// is; whoever is connected to it is disconnected. Idempotent, also after a crash in the middle of it. ErrNotFound where nothing was prepared.
	Swap(ctx context.Context, fence Fence, set DataSet) error

	// SwapBack undoes a Swap, whole or half done. Where there was none it does nothing.
	SwapBack(ctx context.Context, fence Fence, set DataSet) error

	// Discard deletes a set that was prepared, and is not swapped. Twice is fine.
	Discard(ctx context.Context, fence Fence, set DataSet) error

	// Forget deletes a set that a Swap has kept. Twice is fine.
	Forget(ctx context.Context, fence Fence, set DataSet) error

	// Kept returns the sets that swaps have kept, oldest first. The id of set is not looked at.
	Kept(ctx context.Context, set DataSet) ([]KeptData, error)
}

// DataSet names a second set of a stage's data.
type DataSet struct {
	ID       string      // of the restore; [a-z0-9]
	Database Database    // of the stage
	URL      secret.Text // of the stage's database; empty: it has none
	Volumes  []string    // names of all volumes of the app
}

// KeptData is what a stage worked with until a restore.
type KeptData struct {
	ID       string    `json:"id"`                 // of the restore
	Database string    `json:"database,omitempty"` // name of it now; empty: the set has none
	Bytes    int64     `json:"bytes,omitempty"`
	Since    time.Time `json:"since,omitzero"`
}

// Instead is what an engine with Tasks has that can run a command with other values than the rollout's for some variables.
type Instead interface {
	// TaskInstead is Task with these settings in place of those of the same names. They are masked as all are.
	TaskInstead(ctx context.Context, rollout, name, command string, mounts []VolumeMount, settings []Setting) error
}
