package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Variables is what a Service has that keeps the variables of stages. What it does is in the ledger, under the person who asked.
type Variables interface {
	// SetVariables keeps values, all or none.
	SetVariables(ctx context.Context, stage deploy.StageRef, kind deploy.VariableKind, values []deploy.Setting, by deploy.Person) error

	// RemoveVariables takes variables away, all or none. ErrNotFound for one that the stage does not have.
	RemoveVariables(ctx context.Context, stage deploy.StageRef, kind deploy.VariableKind, names []string, by deploy.Person) error

	// ListVariables returns what was set, in the order of names; secrets without their values.
	ListVariables(ctx context.Context, stage deploy.StageRef) ([]deploy.Variable, error)

	// Password returns the password of a private stage, and NewPassword makes another one.
	Password(ctx context.Context, stage deploy.StageRef) (secret.Text, error)
	NewPassword(ctx context.Context, stage deploy.StageRef, by deploy.Person) (secret.Text, error)
}

// Homes is what a Service has that can keep the secrets of a stage where its platform reads them.
type Homes interface {
	// Settle says where the secrets of a stage rest from now on.
	Settle(ctx context.Context, stage deploy.StageRef, home deploy.Home) error
}

// bare is a secret on its way through the socket, the one place where it is written out. In logs and errors it is as hidden as any.
type bare struct{ secret.Text }

func (b bare) MarshalJSON() ([]byte, error) { return json.Marshal(b.Reveal()) }

func (b *bare) UnmarshalJSON(data []byte) error {
	var s *string
	if json.Unmarshal(data, &s) != nil || s == nil {
		return errors.New("a value must be a string") // what the decoder says quotes numbers
	}
	b.Text = secret.New(*s)
	return nil
}

type (
	variablesBody struct {
		Kind   deploy.VariableKind `json:"kind"`
		Values []namedValue        `json:"values,omitempty"`
		Names  []string            `json:"names,omitempty"`
		By     deploy.Person       `json:"by"`
	}
	namedValue struct {
		Name  string `json:"name"`
		Value bare   `json:"value"`
	}
	variablesReply struct {
		Variables []variableReply `json:"variables"`
	}
	variableReply struct {
		Name    string              `json:"name"`
		Kind    deploy.VariableKind `json:"kind"`
		Value   *bare               `json:"value,omitempty"`
		Since   time.Time           `json:"since"`
		By      string              `json:"by"`
		Version int                 `json:"version,omitempty"`
	}
	passwordBody struct {
		By deploy.Person `json:"by"`
	}
	passwordReply struct {
		Password bare `json:"password"`
	}
)

// withVariables makes a handler of one that needs Variables.
func (s *Server) withVariables(h func(Variables, deploy.StageRef, *http.Request) (any, error)) handler {
	return func(_ http.ResponseWriter, r *http.Request) (any, error) {
		keeper, ok := s.service.(Variables)
		if !ok {
			return nil, fmt.Errorf("%w: this controller keeps no variables", deploy.ErrUnsupported)
		}
		return h(keeper, deploy.StageRef{App: r.PathValue("app"), Stage: r.PathValue("stage")}, r)
	}
}

// readSecret is read for bodies with values: what the decoder says of one is not repeated, since it may quote it.
func readSecret(r *http.Request, into any) error {
	if read(r, into) != nil {
		return fmt.Errorf("%w: the request's body is not what it should be", deploy.ErrBadInput)
	}
	return nil
}

func setVariables(v Variables, stage deploy.StageRef, r *http.Request) (any, error) {
	var q variablesBody
	if err := readSecret(r, &q); err != nil {
		return nil, err
	}
	return nothing{}, v.SetVariables(r.Context(), stage, q.Kind, settingsOf(q.Values), q.By)
}

func removeVariables(v Variables, stage deploy.StageRef, r *http.Request) (any, error) {
	var q variablesBody
	if err := readSecret(r, &q); err != nil {
		return nil, err
	}
	return nothing{}, v.RemoveVariables(r.Context(), stage, q.Kind, q.Names, q.By)
}

func listVariables(v Variables, stage deploy.StageRef, r *http.Request) (any, error) {
	all, err := v.ListVariables(r.Context(), stage)
	reply := variablesReply{[]variableReply{}}
	for _, one := range all {
		shown := variableReply{Name: one.Name, Kind: one.Kind, Since: one.Since, By: one.By, Version: one.Version}
		if one.Kind == deploy.PlainVariable { // whatever the service says: a secret's value does not leave
			shown.Value = &bare{one.Value}
		}
		reply.Variables = append(reply.Variables, shown)
	}
	return reply, err
}

func (s *Server) settle(_ http.ResponseWriter, r *http.Request) (any, error) {
	keeper, ok := s.service.(Homes)
	if !ok {
		return nil, fmt.Errorf("%w: this controller keeps secrets on its machine alone", deploy.ErrUnsupported)
	}
	var home deploy.Home
	if err := read(r, &home); err != nil {
		return nil, err
	}
	return nothing{}, keeper.Settle(r.Context(), deploy.StageRef{App: r.PathValue("app"), Stage: r.PathValue("stage")}, home)
}

func password(v Variables, stage deploy.StageRef, r *http.Request) (any, error) {
	text, err := v.Password(r.Context(), stage)
	return passwordReply{bare{text}}, err
}

func newPassword(v Variables, stage deploy.StageRef, r *http.Request) (any, error) {
	var q passwordBody
	if err := readSecret(r, &q); err != nil {
		return nil, err
	}
	text, err := v.NewPassword(r.Context(), stage, q.By)
	return passwordReply{bare{text}}, err
}

func stagePath(stage deploy.StageRef, what string) string {
	return "/v1/apps/" + url.PathEscape(stage.App) + "/stages/" + url.PathEscape(stage.Stage) + "/" + what
}

// SetVariables keeps values for a stage, all or none.
func (c *Client) SetVariables(ctx context.Context, stage deploy.StageRef, kind deploy.VariableKind, values []deploy.Setting, by deploy.Person) error {
	all, err := named(values)
	if err != nil {
		return err
	}
	return c.call(ctx, http.MethodPost, stagePath(stage, "variables"), variablesBody{Kind: kind, Values: all, By: by}, &nothing{})
}

// RemoveVariables takes variables of a stage away, all or none.
func (c *Client) RemoveVariables(ctx context.Context, stage deploy.StageRef, kind deploy.VariableKind, names []string, by deploy.Person) error {
	return c.call(ctx, http.MethodDelete, stagePath(stage, "variables"), variablesBody{Kind: kind, Names: names, By: by}, &nothing{})
}

// ListVariables returns the variables that were set for a stage, in the order of names; secrets without their values.
func (c *Client) ListVariables(ctx context.Context, stage deploy.StageRef) ([]deploy.Variable, error) {
	var r variablesReply
	if err := c.call(ctx, http.MethodGet, stagePath(stage, "variables"), nil, &r); err != nil {
		return nil, err
	}
	all := make([]deploy.Variable, len(r.Variables))
	for i, one := range r.Variables {
		all[i] = deploy.Variable{Name: one.Name, Kind: one.Kind, Since: one.Since, By: one.By, Version: one.Version}
		if one.Value != nil {
			all[i].Value = one.Value.Text
		}
	}
	return all, nil
}

// Settle says where the secrets of a stage rest: lotse.yaml knows, and a controller that has not rolled out there yet does not.
func (c *Client) Settle(ctx context.Context, stage deploy.StageRef, home deploy.Home) error {
	return c.call(ctx, http.MethodPut, stagePath(stage, "home"), home, &nothing{})
}

// Password returns the password of a private stage, which is made when it is asked for the first time.
func (c *Client) Password(ctx context.Context, stage deploy.StageRef) (secret.Text, error) {
	var r passwordReply
	err := c.call(ctx, http.MethodGet, stagePath(stage, "password"), nil, &r)
	return r.Password.Text, err
}

// NewPassword makes another password for a private stage.
func (c *Client) NewPassword(ctx context.Context, stage deploy.StageRef, by deploy.Person) (secret.Text, error) {
	var r passwordReply
	err := c.call(ctx, http.MethodPost, stagePath(stage, "password"), passwordBody{by}, &r)
	return r.Password.Text, err
}
