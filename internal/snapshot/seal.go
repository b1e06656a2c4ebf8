package snapshot

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// sealer compresses and encrypts what is written to it, and says what came out. Its memory does not grow with what goes through.
type sealer struct {
	zstd  *zstd.Encoder
	age   io.WriteCloser
	kept  counted
	plain int64
}

// Bounds of the compression, which together take about 30 MB: as many goroutines as the smallest machines have cores, and how far back
// zstd looks for what repeats, in bytes. The fastest level takes half the time of the default, and makes of rows no more bytes: measured with
// the rows of bench/snapshot.go, 49 MB of 150 beside 52.
const (
	zstdWorkers = 2
	zstdWindow  = 4 << 20
)

func seal(to io.Writer, recipients []age.Recipient) (*sealer, error) {
	s := &sealer{kept: counted{to: to, hash: sha256.New()}}
	var err error
	if s.age, err = age.Encrypt(&s.kept, recipients...); err != nil {
		return nil, err
	}
	s.zstd, err = zstd.NewWriter(s.age, zstd.WithEncoderConcurrency(zstdWorkers), zstd.WithWindowSize(zstdWindow), zstd.WithEncoderLevel(zstd.SpeedFastest))
	return s, err
}

func (s *sealer) Write(p []byte) (int, error) {
	n, err := s.zstd.Write(p)
	s.plain += int64(n)
	return n, err
}

// Close writes what is left. Without it nothing is whole.
func (s *sealer) Close() error { return errors.Join(s.zstd.Close(), s.age.Close()) }

// part is what the manifest says of what came out.
func (s *sealer) part(name string) part {
	return part{Name: name, Plain: s.plain, Size: s.kept.n, SHA256: hex.EncodeToString(s.kept.hash.Sum(nil))}
}

// counted counts what goes through, and knows its digest.
type counted struct {
	to   io.Writer
	n    int64
	hash hash.Hash
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.n += int64(n)
	c.hash.Write(p[:n])
	return n, err
}

// opened is what lies in a part, while it is read.
type opened struct {
	zstd *zstd.Decoder
	from *counting
	part part
}

// unseal opens a part that from holds. What it says about damage names the part.
func unseal(from io.Reader, p part, keys []age.Identity) (*opened, error) {
	counted := &counting{from: from, hash: sha256.New()}
	plain, err := age.Decrypt(counted, keys...)
	if err != nil {
		return nil, p.wrong(err, counted)
	}
	z, err := zstd.NewReader(&marked{plain}, zstd.WithDecoderConcurrency(zstdWorkers), zstd.WithDecoderMaxWindow(64<<20), zstd.WithDecoderMaxMemory(256<<20))
	return &opened{z, counted, p}, err
}

// Read ends only when all bytes are those that were written once.
func (o *opened) Read(p []byte) (int, error) {
	n, err := o.zstd.Read(p)
	switch {
	case err == nil:
		return n, nil
	case !errors.Is(err, io.EOF):
		return n, o.part.wrong(err, o.from)
	case o.part.SHA256 != "" && hex.EncodeToString(o.from.hash.Sum(nil)) != o.part.SHA256:
		return n, fmt.Errorf("%w: %s is not the one that the manifest speaks of", deploy.ErrDamaged, o.part.Name)
	}
	return n, io.EOF
}

func (o *opened) Close() { o.zstd.Close() }

// counting is counted for what is read. It remembers what failed below, which is not damage.
type counting struct {
	from  io.Reader
	n     int64
	hash  hash.Hash
	ended bool
	err   error
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.n += int64(n)
	c.hash.Write(p[:n])
	if errors.Is(err, io.EOF) {
		c.ended = true
	} else if err != nil {
		c.err = err
	}
	return n, err
}

// marked tells errors of age from those of zstd.
type marked struct{ from io.Reader }

type unauthentic struct{ error }

func (m *marked) Read(p []byte) (int, error) {
	n, err := m.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = unauthentic{err}
	}
	return n, err
}

// wrong says what is wrong with a part.
func (p part) wrong(err error, read *counting) error {
	switch {
	case read.err != nil:
		return fmt.Errorf("read %s: %w", p.Name, read.err)
	case is[*age.NoIdentityMatchError](err) && p.Name != manifestName: // which was opened with the same keys
		return fmt.Errorf("%w: %s was changed: the keys that open the manifest do not open it", deploy.ErrDamaged, p.Name)
	case is[*age.NoIdentityMatchError](err):
		return deploy.Hint(fmt.Errorf("%w: %s cannot be opened: it was encrypted for other keys than those that are here", deploy.ErrDamaged, p.Name),
			"give the age key that belonged to the recipients when it was taken")
	case p.Size > read.n && read.ended:
		return fmt.Errorf("%w: %s is cut: %d of %d bytes are there", deploy.ErrDamaged, p.Name, read.n, p.Size)
	case is[unauthentic](err):
		return fmt.Errorf("%w: %s was changed: its bytes are not those that were encrypted", deploy.ErrDamaged, p.Name)
	}
	return fmt.Errorf("%w: %s cannot be read: it is not what was written", deploy.ErrDamaged, p.Name)
}
