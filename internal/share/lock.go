package share

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

const lockKey = prefix + "lock.json"

// lock is lock.json: who may write, or who was the last.
type lock struct {
	Format int           `json:"format"`
	Owner  string        `json:"owner"` // random; no two controllers have the same
	Who    string        `json:"who"`   // for people: the address of the job
	Since  time.Time     `json:"since"`
	Beat   int64         `json:"beat"` // counts the writes
	Expiry time.Duration `json:"expiry"`
	Clock  time.Time     `json:"clock"` // the holder's, at this write
	Free   bool          `json:"free,omitempty"`
}

// Bounds of what another controller may say of itself: a lock that says otherwise is not one of ours.
const (
	longestExpiry = 10 * time.Minute
	farBehind     = time.Hour
)

func (l lock) holder() string {
	return fmt.Sprintf("%s (%s), since %s", l.Who, l.Owner[:min(8, len(l.Owner))], l.Since.UTC().Format("2006-01-02 15:04:05 UTC"))
}

// readLock returns the lock that lies there; errAbsent for none.
func (s *Share) readLock(ctx context.Context) (l lock, at object, err error) {
	if at, err = s.get(ctx, lockKey); err != nil {
		return l, at, err
	}
	if json.Unmarshal(at.data, &l) != nil || l.Format != format || l.Owner == "" || l.Expiry <= 0 || l.Expiry > longestExpiry {
		return l, at, deploy.Hint(fmt.Errorf("%w: %s in %s cannot be read", deploy.ErrDamaged, lockKey, s.Bucket),
			"it was written by a newer version of Lotse, or by hand; when no controller runs, delete it")
	}
	return l, at, nil
}

// watched is what was seen of somebody else's lock, and since when it is as it is.
type watched struct {
	etag  string
	since time.Time
}

// silent reports whether the holder has been silent for longer than its lock lasts: by the clock of S3, whose times are whole seconds, or
// because it was watched for so long.
func (w *watched) silent(l lock, at object) bool {
	if w.etag != at.etag {
		w.etag, w.since = at.etag, time.Now()
	}
	return at.age > l.Expiry+time.Second || time.Since(w.since) > l.Expiry
}

// take makes this controller the one that writes, and waits for another one as long as Config says.
func (s *Share) take(ctx context.Context) error {
	seen, told := &watched{}, false
	for deadline := time.Now().Add(s.Wait); ; {
		l, at, err := s.readLock(ctx)
		when := condition{etag: at.etag}
		switch {
		case errors.Is(err, errAbsent):
			when = condition{absent: true}
		case err != nil:
			return err
		case !l.Free && !seen.silent(l, at):
			if time.Now().After(deadline) {
				return deploy.Hint(fmt.Errorf("%w: another controller has the history in %s: %s", deploy.ErrBusy, s.Bucket, l.holder()),
					"wait until it has ended, or end it with `lotse down` there; one that was killed is waited for "+l.Expiry.String())
			}
			if !told {
				s.Log.Info("waiting for another controller", "who", l.holder())
				told = true
			}
			if err := pause(ctx, min(s.Expiry/10, 2*time.Second)); err != nil {
				return err
			}
			continue
		}
		if err := s.setClock(l); err != nil {
			return err
		}
		switch err := s.claim(ctx, when); {
		case errors.Is(err, errLost): // somebody else was faster
		case err != nil:
			return err
		default:
			if !l.Free && l.Owner != "" {
				s.Log.Warn("took over from a controller that is silent", "who", l.holder())
			}
			return nil
		}
	}
}

// setClock sets this controller's clock so that it is not behind what the one before can have seen: fences are made of it.
func (s *Share) setClock(before lock) error {
	if before.Owner == "" {
		return nil
	}
	latest := before.Clock.Add(time.Second)
	if !before.Free {
		latest = latest.Add(before.Expiry)
	}
	behind := latest.Sub(s.Clock())
	if behind > farBehind {
		return deploy.Hint(fmt.Errorf("%w: the clock of this machine is %s behind that of the controller before", deploy.ErrUnavailable, behind.Round(time.Second)),
			"set the clock of this machine; where it is right, delete "+lockKey+" in the bucket")
	}
	s.ahead = max(0, behind)
	return nil
}

// Now is the time as the history has it: never before what an earlier controller wrote.
func (s *Share) Now() time.Time { return s.Clock().Add(s.ahead) }

func (s *Share) claim(ctx context.Context, when condition) error {
	s.mine = lock{Format: format, Owner: s.owner, Who: s.Who, Since: s.Now().UTC(), Expiry: s.Expiry}
	return s.write(ctx, when)
}

// write writes the lock as this controller has it, and notes until when it may rely on it.
func (s *Share) write(ctx context.Context, when condition) error {
	s.mine.Beat++
	s.mine.Clock = s.Now().UTC()
	data, err := json.Marshal(s.mine)
	if err != nil {
		return err
	}
	sent := time.Now()
	etag, err := s.put(ctx, lockKey, data, when)
	if errors.Is(err, errLost) { // perhaps by a try of this very call whose answer was lost
		at, readErr := s.get(ctx, lockKey)
		if readErr != nil || string(at.data) != string(data) {
			return errors.Join(err, unlessAbsent(readErr))
		}
		etag, err = at.etag, nil
	}
	if err != nil {
		return err
	}
	s.etag = etag
	s.rely(sent.Add(s.Expiry))
	return nil
}

func unlessAbsent(err error) error {
	if errors.Is(err, errAbsent) {
		return nil
	}
	return err
}

// beat keeps the lock until ctx ends, or until it is lost.
func (s *Share) beat(ctx context.Context) {
	defer close(s.still)
	for pause(ctx, s.Expiry/6) == nil {
		err := s.renew(ctx)
		switch {
		case err == nil:
		case errors.Is(err, errLost):
			s.lose(s.fenced(ctx))
			return
		case !s.holds() && ctx.Err() == nil:
			s.lose(fmt.Errorf("%w: the bucket did not answer for as long as the lock lasts (%s): %w", deploy.ErrFenced, s.Expiry, err))
			return
		case ctx.Err() == nil:
			s.Log.Warn("the lock of the shared history could not be renewed, trying again", "error", err)
		}
	}
}

// renew writes the lock once more. An answer that does not come is given up soon, so that there is time for another try.
func (s *Share) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.Expiry/3)
	defer cancel()
	return s.write(ctx, condition{etag: s.etag})
}

// fenced says who has the lock now.
func (s *Share) fenced(ctx context.Context) error {
	l, _, err := s.readLock(ctx)
	if err != nil {
		return fmt.Errorf("%w: the lock of the history in %s is another's", deploy.ErrFenced, s.Bucket)
	}
	return fmt.Errorf("%w: the history in %s was taken over by %s", deploy.ErrFenced, s.Bucket, l.holder())
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
