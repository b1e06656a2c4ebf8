package infra

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/smithy-go"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Plan says what an Apply would do, and what was changed behind its back. It leaves nothing, also after a cancel: the change sets by which
// it asks are deleted. A killed process leaves them; they change nothing, and a later Plan or Apply deletes those of more than an hour ago.
func (c Cloud) Plan(ctx context.Context, app deploy.App) (report Report, err error) {
	s, err := c.open(ctx, app)
	if err != nil {
		return Report{}, err
	}
	for _, st := range s.stacks {
		told, err := s.plan(ctx, st)
		if err != nil {
			return Report{}, err
		}
		report.Stacks = append(report.Stacks, told)
	}
	return report, nil
}

func (s *session) plan(ctx context.Context, st *stack) (told StackReport, err error) {
	if err := s.look(ctx, st); err != nil {
		return told, err
	}
	defer func() { err = errors.Join(err, s.discard(ctx, st)) }()
	if err := s.compare(ctx, st); err != nil {
		return told, err
	}
	told = s.told(st)
	told.Drift, err = s.drift(ctx, st)
	return told, err
}

func (s *session) told(st *stack) StackReport {
	told := StackReport{Name: st.Name, Region: st.Region, Account: s.account, State: differs, Changes: st.changes}
	switch {
	case st.there == nil:
		told.State = notThere
	case st.set != nil && st.set.empty:
		told.State = asIs
	}
	return told
}

// Apply makes the stacks what is written down, one after the other. replace names the resources that may be replaced, removed or kept no
// longer although they hold data; another one of which that is to be is ErrRefused, before anything is changed. say hears what goes on, a
// line each, one at a time.
//
// A cancel does not stop what AWS is at: it goes on there, and a second Apply with the same input follows it.
func (c Cloud) Apply(ctx context.Context, app deploy.App, replace []string, say func(line string)) (report Report, err error) {
	s, err := c.open(ctx, app)
	if err != nil {
		return Report{}, err
	}
	w := &work{session: s, replace: slices.Sorted(slices.Values(replace)), say: say}
	defer func() {
		for _, st := range s.stacks {
			err = errors.Join(err, s.discard(ctx, st))
		}
	}()
	if err := w.prepare(ctx); err != nil {
		return Report{}, err
	}
	for _, st := range s.stacks {
		if err := w.bring(ctx, st); err != nil {
			return Report{}, err
		}
		report.Stacks = append(report.Stacks, StackReport{Name: st.Name, Region: st.Region, Account: s.account, State: asIs, Changes: st.changes})
	}
	return report, nil
}

// work is one Apply.
type work struct {
	*session
	replace []string
	say     func(string)
}

// prepare compares everything, and refuses what would lose data without a name, before anything is changed.
func (w *work) prepare(ctx context.Context) error {
	for _, st := range w.stacks {
		if err := w.lookOrFollow(ctx, st); err != nil {
			return err
		}
		if err := w.compare(ctx, st); err != nil {
			return err
		}
	}
	if err := w.known(); err != nil {
		return err
	}
	return w.permitted(w.stacks...)
}

// lookOrFollow goes along with an operation at work when it is this very apply, begun by a process that was killed or lost the network.
func (w *work) lookOrFollow(ctx context.Context, st *stack) error {
	err := w.look(ctx, st)
	var at *busyError
	if !errors.As(err, &at) || !strings.HasPrefix(at.token, w.tokenPrefix(st)) {
		return err
	}
	w.say(fmt.Sprintf("stack %s: this apply is at work already, and is followed", st.Name))
	if err := w.follow(ctx, st, at.token); err != nil {
		return err
	}
	return w.look(ctx, st)
}

// known refuses a name in replace that no template has: it is mistyped, and what was meant would not be replaced.
func (w *work) known() error {
	for _, name := range w.replace {
		if !slices.ContainsFunc(w.stacks, func(st *stack) bool { return st.before[name].Kind != "" || st.written[name].Kind != "" }) {
			return deploy.Hint(fmt.Errorf("%w: there is no resource %s", deploy.ErrBadInput, name), "lotse infra plan has the names")
		}
	}
	return nil
}

// permitted refuses what loses data and is not named.
func (w *work) permitted(stacks ...*stack) error {
	var lost, flags []string
	for _, st := range stacks {
		for _, c := range st.changes {
			if c.Loses && !slices.Contains(w.replace, c.Resource) {
				lost = append(lost, fmt.Sprintf("%s (%s) would be %s: %s", c.Resource, c.Kind, map[string]string{"replace": "replaced", "remove": "removed"}[c.Action], c.Why))
				flags = append(flags, "--replace "+c.Resource)
			}
		}
	}
	if len(lost) == 0 {
		return nil
	}
	for i := range lost {
		lost[i] = strings.Replace(lost[i], "would be : ", "would be kept no longer: ", 1)
	}
	return deploy.Hint(fmt.Errorf("%w: data would be lost, and nothing was changed: %s", deploy.ErrRefused, strings.Join(lost, "; ")),
		"take a backup, and say that it may go: lotse infra apply "+strings.Join(flags, " "))
}

// bring makes one stack what is written down, and puts its guards on.
func (w *work) bring(ctx context.Context, st *stack) error {
	if st.open { // what stood in for a parameter is known by now
		if err := w.discard(ctx, st); err != nil {
			return err
		}
		if err := w.compare(ctx, st); err != nil {
			return err
		}
		if err := w.permitted(st); err != nil {
			return err
		}
	}
	planned := st.changes
	if st.seedling {
		if err := w.plant(ctx, st); err != nil {
			return err
		}
	}
	if st.set.empty {
		w.say(fmt.Sprintf("stack %s: nothing is to be changed", st.Name))
	} else if err := w.execute(ctx, st); err != nil {
		return err
	}
	st.changes = planned
	return w.guardAgain(ctx, st)
}

func (w *work) execute(ctx context.Context, st *stack) error {
	if err := w.protect(ctx, st, true); err != nil {
		return err
	}
	if st.there != nil {
		if err := w.setPolicy(ctx, st, guard(data(st.before), w.replace)); err != nil {
			return err
		}
	}
	token := w.tokenPrefix(st) + w.Now().UTC().Format("20060102T150405Z") + "-" + wordOf(w.who)
	w.say(fmt.Sprintf("stack %s in %s: %d changes", st.Name, st.Region, len(st.changes)))
	_, err := st.api.ExecuteChangeSet(ctx, &cloudformation.ExecuteChangeSetInput{StackName: aws.String(st.Name), ChangeSetName: aws.String(st.set.name),
		ClientRequestToken: aws.String(token), RetainExceptOnCreate: aws.Bool(true)})
	if err != nil {
		if err := w.notBegun(ctx, st, token, err); err != nil {
			return err
		}
	}
	st.set = nil // executing has used it up
	if err := w.follow(ctx, st, token); err != nil {
		return err
	}
	st.there, err = w.describe(ctx, st.api, st.Name)
	if err != nil {
		return w.explain(ctx, err, "cloudformation:DescribeStacks", st.Region)
	}
	return nil
}

// notBegun is the error of an ExecuteChangeSet, or nil when it has begun all the same: an answer was lost, and the second call found the
// change set used up.
func (w *work) notBegun(ctx context.Context, st *stack, token string, err error) error {
	var refusal smithy.APIError
	used := errors.As(err, &refusal) && (refusal.ErrorCode() == "ChangeSetNotFound" || refusal.ErrorCode() == "InvalidChangeSetStatus")
	if used {
		events, failed := w.events(ctx, st, func(e types.StackEvent) bool { return begins(st, e) })
		if failed == nil && len(events) > 0 && aws.ToString(events[0].ClientRequestToken) == token {
			return nil
		}
	}
	if st.there == nil && ctx.Err() == nil {
		_ = w.protect(ctx, st, false) // nothing is to be protected, and discard may take the shell away
	}
	if used {
		return deploy.Hint(fmt.Errorf("%w: the change set of the stack %s holds no longer: somebody has changed the stack, or deleted the set, in the meantime", deploy.ErrBusy, st.Name),
			"look at lotse infra plan, and apply again")
	}
	return w.explain(ctx, err, "cloudformation:ExecuteChangeSet", st.Region)
}

// tokenPrefix tells an operation by what it applies. A token has letters, digits and hyphens, 128 at most.
func (w *work) tokenPrefix(st *stack) string {
	sum := sha256.Sum256([]byte(strings.Join(append([]string{w.app.Name, st.Name, st.template}, w.replace...), "\x00")))
	return setPrefix + hex.EncodeToString(sum[:5]) + "-"
}

var notInTokens = regexp.MustCompile(`[^a-zA-Z0-9]+`)

func wordOf(who string) string {
	word := strings.Trim(notInTokens.ReplaceAllString(who, "-"), "-")
	return word[:min(len(word), 64)]
}

func (w *work) protect(ctx context.Context, st *stack, on bool) error {
	if st.there != nil && aws.ToBool(st.there.EnableTerminationProtection) == on {
		return nil
	}
	_, err := st.api.UpdateTerminationProtection(ctx, &cloudformation.UpdateTerminationProtectionInput{StackName: aws.String(st.Name), EnableTerminationProtection: aws.Bool(on)})
	if err != nil {
		return w.explain(ctx, err, "cloudformation:UpdateTerminationProtection", st.Region)
	}
	return nil
}

// guardAgain: termination protection, and a policy that holds all that holds data.
func (w *work) guardAgain(ctx context.Context, st *stack) error {
	if err := w.protect(ctx, st, true); err != nil {
		return err
	}
	return w.setPolicy(ctx, st, guard(data(st.written), nil))
}

func (w *work) setPolicy(ctx context.Context, st *stack, policy string) error {
	now, err := st.api.GetStackPolicy(ctx, &cloudformation.GetStackPolicyInput{StackName: aws.String(st.Name)})
	if err != nil {
		return w.explain(ctx, err, "cloudformation:GetStackPolicy", st.Region)
	}
	if aws.ToString(now.StackPolicyBody) == policy {
		return nil
	}
	if _, err := st.api.SetStackPolicy(ctx, &cloudformation.SetStackPolicyInput{StackName: aws.String(st.Name), StackPolicyBody: &policy}); err != nil {
		return w.explain(ctx, err, "cloudformation:SetStackPolicy", st.Region)
	}
	return nil
}
