package local

import (
	"context"
	"fmt"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/proxy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// lock is a stage's password as stage.json has it: what it can be proven with, and the key of the sign-ins. Never the password.
type lock struct {
	Verifier string `json:"verifier"`
	Key      []byte `json:"key"`
}

func (l *lock) private() *proxy.Private { return &proxy.Private{Verifier: l.Verifier, Key: l.Key} }

// opens reports whether it is the password of now; then everybody stays signed in.
func (l *lock) opens(password secret.Text) bool { return l != nil && l.private().Opens(password) }

// SetPassword makes password the stage's, at once where the stage is private, and for when it will be. A new one ends all sign-ins;
// the same again changes nothing. Rollouts bring their password with them (Order.Password): this is for a new password without a
// rollout. ErrBadInput where it is empty.
func (e *Engine) SetPassword(ctx context.Context, fence deploy.Fence, password secret.Text) error {
	if password.Empty() {
		return e.failed("set the password", fmt.Errorf("%w: it is empty", deploy.ErrBadInput))
	}
	err := e.admit(ctx, fence)
	if err == nil {
		err = e.keepPassword(ctx, password)
	}
	if err == nil {
		err = e.publishPassword(ctx, fence)
	}
	return e.failed("set the password", err)
}

// keepPassword makes the lock of a password that the stage does not have yet. Nothing is published.
func (e *Engine) keepPassword(ctx context.Context, password secret.Text) error {
	seen, err := e.readStage()
	if err != nil || seen.Lock.opens(password) {
		return err
	}
	return e.changeStage(ctx, func(s *stage) error {
		// Two locks of one password would end each other's sign-ins.
		if first := s.Lock != nil && (seen.Lock == nil || s.Lock.Verifier != seen.Lock.Verifier); first && s.Lock.opens(password) {
			return nil
		}
		made, err := proxy.NewPrivate(password, e.PasswordCost)
		if err == nil {
			s.Lock = &lock{Verifier: made.Verifier, Key: made.Key}
		}
		return err
	})
}

// publishPassword gives the proxy the lock of now where it closes the site with another one.
func (e *Engine) publishPassword(ctx context.Context, fence deploy.Fence) error {
	s, err := e.readStage()
	if err != nil || s.Given == "" || s.Lock == nil || s.Lock.Verifier == s.Given {
		return err
	}
	return e.publish(ctx, fence, keepShares)
}

// renewPassword takes up the password that an order for a rollout that is up already brings, under the fence of whoever changed the
// stage last.
func (e *Engine) renewPassword(ctx context.Context, n *note, order deploy.Order) error {
	if !n.Private || order.Password.Empty() {
		return nil
	}
	if err := e.keepPassword(ctx, order.Password); err != nil {
		return err
	}
	s, err := e.readStage()
	if err != nil {
		return err
	}
	return e.publishPassword(ctx, s.Fence)
}

// closedBy says who may see the site: everybody, or who has the password. Whoever has traffic decides, and of an open and a private
// rollout that share it the private one. Where nobody has traffic one private rollout is enough, and where nothing is up it stays as
// it was. A site that ought to be closed and has no lock is not published.
func (e *Engine) closedBy(s stage, up []*note, shares map[string]int) (*proxy.Private, error) {
	closed, decided := s.Given != "", false
	for _, serving := range []bool{true, false} {
		for _, n := range up {
			if serving && shares[n.Rollout] == 0 {
				continue
			}
			closed, decided = decided && closed || n.Private, true
		}
		if decided {
			break
		}
	}
	switch {
	case !closed:
		return nil, nil
	case s.Lock == nil:
		return nil, deploy.Hint(fmt.Errorf("%w: the stage is private and has no password", deploy.ErrBadInput), "deploy again, or write access: open in lotse.yaml")
	}
	return s.Lock.private(), nil
}
