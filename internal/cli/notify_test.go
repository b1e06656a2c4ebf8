package cli

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func (h *harbour) TestNotices(_ context.Context, q deploy.NoticeTest) ([]deploy.NoticeResult, error) {
	return h.Notices, h.note("notices", fmt.Sprintf("%v %q %q", filepath.IsAbs(q.Dir), q.Stage, q.Notice))
}
