package aws

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// bundleMost is what Elastic Beanstalk takes as a source bundle.
const bundleMost = 500 << 20

// bundle is the ZIP of a rollout, in a file of this machine.
type bundle struct {
	file *os.File
	size int64
	sum  string // SHA-256, in hexadecimal
}

func (b *bundle) key() string { return "bundles/" + b.sum + ".zip" }

func (b *bundle) remove() {
	b.file.Close()
	_ = os.Remove(b.file.Name()) // in scratch
}

// entry is one file of a bundle; of a release's, the bytes are read when they are written.
type entry struct {
	path       string
	executable bool
	link       string
	text       []byte                        // where open is nil
	open       func() (io.ReadCloser, error) // nil: text
}

// bundle makes the ZIP of a rollout. The same release with the same spec gives the same bytes.
func (e *Engine) bundle(ctx context.Context, o deploy.Order, s *stack) (*bundle, error) {
	entries, err := e.entries(ctx, o, s)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(e.Dir, 0o700); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(e.Dir, "bundle-*.zip")
	if err != nil {
		return nil, err
	}
	b := &bundle{file: file}
	sum := sha256.New()
	if b.size, err = writeBundle(ctx, io.MultiWriter(file, sum), entries, e.most); err != nil {
		b.remove()
		return nil, err
	}
	b.sum = hex.EncodeToString(sum.Sum(nil))
	return b, nil
}

// entries are all files of a bundle: the release's, and what makes the platform run them.
func (e *Engine) entries(ctx context.Context, o deploy.Order, s *stack) ([]entry, error) {
	files, err := e.Files(ctx, o.Release)
	if err != nil {
		return nil, err
	}
	spec, err := e.spec(o, s).json()
	if err != nil {
		return nil, err
	}
	all := []entry{
		{path: ".lotse/bin/lotse", executable: true, open: func() (io.ReadCloser, error) { return os.Open(e.Lotse) }},
		{path: ".lotse/front.json", text: spec},
		{path: "Procfile", text: []byte("web: .lotse/bin/lotse front\n")},
		{path: ".ebextensions/lotse.config", text: []byte(encrypted + e.lb.resources())},
	}
	for name, script := range e.hooks(o, s) {
		all = append(all, entry{path: ".platform/hooks/" + name, executable: true, text: []byte(script)})
	}
	return append(all, e.released(files, o.Release.Manifest.Files)...), nil
}

// released are the files of the release. What the platform would take for instructions of its own is left out: a release does on
// every engine what lotse.yaml says, and nothing else.
func (e *Engine) released(files fs.FS, manifest []deploy.File) (all []entry) {
	modules, packages := false, false
	for _, f := range manifest {
		if instructs(f.Path) {
			e.Log.Warn("left out of the bundle: Elastic Beanstalk would take it for its instructions", "app", e.App, "stage", e.Stage.Name, "file", f.Path)
			continue
		}
		modules = modules || strings.HasPrefix(f.Path, "node_modules/")
		packages = packages || f.Path == "package.json"
		all = append(all, entry{path: f.Path, executable: f.Executable, link: f.Link, open: func() (io.ReadCloser, error) { return files.Open(f.Path) }})
	}
	if packages && !modules {
		// Without this folder the platform would install packages on every instance: other bytes than those that were released.
		all = append(all, entry{path: "node_modules/.lotse"})
	}
	return all
}

// instructs reports whether Elastic Beanstalk looks at a file by itself.
func instructs(file string) bool {
	first, _, _ := strings.Cut(file, "/")
	return slices.Contains([]string{".ebextensions", ".platform", "Procfile", "Buildfile", "env.yaml"}, first) || strings.HasPrefix(file, ".lotse/bin/") || file == ".lotse/front.json"
}

// encrypted makes the instances' disks encrypted ones. Elastic Beanstalk has no option for it; its templates may be added to.
const encrypted = `Resources:
  AWSEBEC2LaunchTemplate:
    Type: AWS::EC2::LaunchTemplate
    Properties:
      LaunchTemplateData:
        BlockDeviceMappings:
          - DeviceName: /dev/xvda
            Ebs: { Encrypted: true, VolumeType: gp3, VolumeSize: 12, DeleteOnTermination: true }
`

// hooks are scripts that run on every instance before anything of the release does.
func (e *Engine) hooks(o deploy.Order, s *stack) map[string]string {
	const begin = "#!/bin/sh\nset -eu\n"
	// The front keeps its socket there, where root finds it too: commands on instances run as root.
	all := map[string]string{"prebuild/00-folders.sh": begin + "mkdir -p " + runFolder + "\nchown webapp: " + runFolder + "\nchmod 0700 " + runFolder + "\n"}
	if volumes := volumesOf(o.Release.Manifest); len(volumes) > 0 {
		var script strings.Builder
		script.WriteString(begin + "mkdir -p " + volumesFolder + "\n" +
			"mountpoint -q " + volumesFolder + " || { dnf install -y -q amazon-efs-utils; mount -t efs -o tls " + s.volumes + ":/ " + volumesFolder + "; }\n")
		for _, v := range volumes {
			script.WriteString("mkdir -p " + path.Join(volumesFolder, v) + "\nchown webapp: " + path.Join(volumesFolder, v) + "\n")
		}
		all["prebuild/10-volumes.sh"] = script.String()
	}
	if o.Stage.Database.Own() {
		all["prebuild/20-authorities.sh"] = begin + "mkdir -p " + lotseFolder + "\n" +
			"curl -fsS --retry 5 -o " + authorities + " https://truststore.pki.rds.amazonaws.com/" + e.AWS.Region + "/" + e.AWS.Region + "-bundle.pem\n"
		if o.Stage.Database.Migrations != "" {
			all["predeploy/10-migrate.sh"] = begin + "cd " + staging + "\nrm -f " + migrateFailed + "\n" +
				"if ! .lotse/bin/lotse front migrate >" + migrateFailed + " 2>&1; then\n  cat " + migrateFailed + " >&2\n  exit 1\nfi\nrm -f " + migrateFailed + "\n"
		}
	}
	return all
}

// errTooLarge ends the writing of a bundle that nobody would take.
var errTooLarge = errors.New("too large")

// bounded counts what is written, and refuses more than most.
type boundedWriter struct {
	to         io.Writer
	size, most int64
}

func (b *boundedWriter) Write(p []byte) (int, error) {
	if b.size += int64(len(p)); b.size > b.most {
		return 0, errTooLarge
	}
	return b.to.Write(p)
}

// writeBundle writes the entries in the order of their paths, without times.
func writeBundle(ctx context.Context, to io.Writer, entries []entry, most int64) (int64, error) {
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.path, b.path) })
	out := &boundedWriter{to: to, most: most}
	z := zip.NewWriter(out)
	for _, f := range entries {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if err := f.write(z); err != nil {
			return 0, bundleError(f.path, err, most)
		}
	}
	return out.size, bundleError("the end", z.Close(), most)
}

func bundleError(at string, err error, most int64) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errTooLarge):
		return deploy.Hint(fmt.Errorf("%w: the bundle has more than %d MB at %s, and Elastic Beanstalk takes no more", deploy.ErrBadInput, most>>20, at),
			"release what runs alone: files of the build and of tests can stay out of makes and files in lotse.yaml; what is large and changes rarely belongs in a volume")
	}
	return fmt.Errorf("the bundle, at %s: %w", at, err)
}

func (f entry) write(z *zip.Writer) error {
	header := &zip.FileHeader{Name: f.path, Method: zip.Deflate}
	from := io.Reader(bytes.NewReader(f.text))
	switch {
	case f.link != "":
		header.SetMode(fs.ModeSymlink | 0o777)
		from = strings.NewReader(f.link)
	case f.executable:
		header.SetMode(0o755)
	default:
		header.SetMode(0o644)
	}
	to, err := z.CreateHeader(header)
	if err != nil {
		return err
	}
	if f.open != nil && f.link == "" {
		file, err := f.open()
		if err != nil {
			return err
		}
		defer file.Close()
		from = file
	}
	_, err = io.Copy(to, from)
	return err
}
