package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/lotse-eu/lotse/internal/bucket"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// Start implements deploy.Engine: it uploads what the bucket misses of the release. Nothing of it is served.
func (s *Site) Start(ctx context.Context, fence deploy.Fence, order deploy.Order) error {
	err := order.Validate()
	if err == nil {
		err = s.start(ctx, fence, order)
	}
	return s.failed(ctx, "start "+order.Rollout, err)
}

func (s *Site) start(ctx context.Context, fence deploy.Fence, o deploy.Order) error {
	if err := siteCan(o); err != nil {
		return err
	}
	s.e.forgetStack()
	b, err := s.admitted(ctx, fence)
	if err != nil {
		return err
	}
	ctx, end := s.e.abortable(ctx, o.Rollout)
	defer end()
	unlock, err := s.e.rollouts.lock(ctx, o.Rollout)
	defer unlock()
	if err != nil {
		return err
	}
	isUp, err := s.isUp(ctx, b, o)
	if err != nil || isUp {
		return err
	}
	release, err := s.filesOf(ctx, o)
	if err != nil {
		return because(ctx, err)
	}
	free, err := s.changing(ctx)
	defer free()
	if err != nil {
		return err
	}
	if err := s.put(ctx, b, fence, o.Rollout, release); err != nil {
		// Whatever became of ctx: nothing may be left.
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.e.Timing.Undo)
		defer cancel()
		if left := b.Remove(undo, int64(fence), o.Rollout); left != nil && !errors.Is(left, bucket.ErrServing) {
			s.e.Log.Warn("a start that failed could not be undone yet", "app", s.e.App, "stage", s.e.Stage.Name, "rollout", o.Rollout, "err", left)
		}
		return because(ctx, err)
	}
	s.e.Log.Info("release is up", "app", s.e.App, "stage", s.e.Stage.Name, "rollout", o.Rollout, "release", o.Release.ID.Short())
	return nil
}

// siteCan says what files alone cannot do, before anything is asked or done.
func siteCan(o deploy.Order) error {
	m := o.Release.Manifest
	switch {
	case Carries(m.Services):
		return fmt.Errorf("%w: %s has a program, and the stage files alone; `lotse infra apply` makes the machines", deploy.ErrUnsupported, commands(m.Services)[0].Name)
	case len(m.Jobs) > 0:
		return fmt.Errorf("%w: the job %s has no machine to run on: all that the app has is served from a bucket", deploy.ErrUnsupported, m.Jobs[0].Name)
	case o.Stage.Private:
		return deploy.Hint(fmt.Errorf("%w: the stage %s is private, and CloudFront asks nobody for a password", deploy.ErrUnsupported, o.Stage.Name),
			"write access: open, or give the app a service with a command")
	}
	return nil
}

// isUp reports whether an earlier Start of the rollout has succeeded, and all of it is still there.
func (s *Site) isUp(ctx context.Context, b *bucket.Bucket, o deploy.Order) (bool, error) {
	r, _, err := b.Of(ctx, o.Rollout)
	if errors.Is(err, bucket.ErrUnknown) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if was := noteOf(r).Release; was != o.Release.ID {
		return false, fmt.Errorf("%w: %s has the release %s", deploy.ErrBadInput, o.Rollout, was.Short())
	}
	missing, err := b.Missing(ctx, o.Rollout)
	if errors.Is(err, bucket.ErrIncomplete) {
		return false, nil
	}
	return len(missing) == 0, err
}

// put uploads, and looks at the result. What S3 will never take is a release that cannot start.
func (s *Site) put(ctx context.Context, b *bucket.Bucket, fence deploy.Fence, rollout string, release siteFiles) error {
	about, err := json.Marshal(release.note)
	if err != nil {
		return err
	}
	_, err = b.Put(ctx, int64(fence), rollout, about, release, release.index)
	if errors.Is(err, bucket.ErrInvalid) || errors.Is(err, bucket.ErrClash) || errors.Is(err, bucket.ErrDamaged) {
		return deploy.Hint(&deploy.StartError{Service: release.about(err.Error()), Cause: err.Error()}, deploy.HintOf(err))
	}
	if err != nil {
		return err
	}
	return s.whole(ctx, b, rollout, release.note)
}

// siteFiles are the files of a release under the paths that they have on the site. It is an fs.FS.
type siteFiles struct {
	note  siteNote
	index []bucket.File
	in    fs.FS
	at    map[string]string // path in the release, by path on the site
}

// Open implements fs.FS.
func (f siteFiles) Open(name string) (fs.File, error) {
	at, there := f.at[name]
	if !there {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return f.in.Open(at)
}

// filesOf takes out of a release what is served, by the indexes that the pipeline has made of its static services.
func (s *Site) filesOf(ctx context.Context, o deploy.Order) (siteFiles, error) {
	in, err := s.e.Files(ctx, o.Release)
	if err != nil {
		return siteFiles{}, err
	}
	services := o.Release.Manifest.Services
	f := siteFiles{in: in, at: map[string]string{}, note: siteNote{Release: o.Release.ID}}
	for _, service := range services {
		f.note.Services = append(f.note.Services, siteServiceOf(service))
	}
	for i, service := range services {
		if err := f.add(service, f.note.Services[i]); err != nil {
			return siteFiles{}, err
		}
	}
	slices.SortFunc(f.index, func(a, b bucket.File) int { return strings.Compare(a.Path, b.Path) })
	return f, nil
}

func siteServiceOf(s deploy.Service) siteService {
	out := siteService{Name: s.Name, Path: "/" + strings.Trim(s.Path, "/")}
	if s.Fallback != "" {
		out.Fallback = path.Join(out.Path, s.Fallback)
	}
	return out
}

// add takes the files of one service. Encodings that lie beside a file are not files of their own, and CloudFront makes its own.
func (f *siteFiles) add(service deploy.Service, is siteService) error {
	cannot := func(cause string) error { return &deploy.StartError{Service: service.Name, Cause: cause} }
	raw, err := fs.ReadFile(f.in, ".lotse/static/"+service.Name+".json")
	if err != nil {
		return cannot("has no index of its files in the release")
	}
	var index proxy.StaticIndex
	if err := json.Unmarshal(raw, &index); err != nil {
		return cannot("has an index of its files that cannot be read")
	}
	if len(index.Files) == 0 {
		return cannot("has no files")
	}
	if _, there := index.Files[strings.TrimPrefix(service.Fallback, "/")]; service.Fallback != "" && !there {
		return cannot("has no file " + service.Fallback + ", its fallback")
	}
	for name, file := range index.Files {
		at := path.Join(is.Path, name)
		if f.note.of(at).Name != service.Name {
			continue // a service with a longer path answers there
		}
		page := at == is.Fallback // it stands for paths that change
		f.at[at[1:]] = path.Join(service.Static, name)
		f.index = append(f.index, bucket.File{Path: at[1:], Type: file.Type, Digest: file.Digest, Size: file.Size,
			Immutable: !page && (file.Immutable || proxy.IsImmutable(name, service.Immutable))})
	}
	return nil
}

// of is the service that answers a path of the site, the zero value for none: the longest one, as in CloudFront's function.
func (n siteNote) of(uri string) (found siteService) {
	for _, s := range n.Services {
		if (uri == s.Path || strings.HasPrefix(uri, strings.TrimSuffix(s.Path, "/")+"/")) && len(s.Path) > len(found.Path) {
			found = s
		}
	}
	return found
}

// about is the service that a message of the bucket is about: the one whose file it names, else the first.
func (f siteFiles) about(message string) string {
	found := ""
	for _, file := range f.index {
		if len(file.Path) > len(found) && strings.Contains(message, file.Path) {
			found = file.Path
		}
	}
	if found == "" {
		return f.note.first()
	}
	return f.note.of("/" + found).Name
}

func (n siteNote) first() string {
	if len(n.Services) == 0 {
		return ""
	}
	return n.Services[0].Name
}
