package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Secrets is what a Service has that keeps versions of variables, and seals them for a team. What it does is in the ledger, under the person
// who asked.
type Secrets interface {
	// ChangeVariables keeps values and takes names away, all or none.
	ChangeVariables(ctx context.Context, stage deploy.StageRef, kind deploy.VariableKind, values []deploy.Setting, remove []string, by deploy.Person) error

	// ReadVariables returns values: those of names, or of all of the kind.
	ReadVariables(ctx context.Context, stage deploy.StageRef, kind deploy.VariableKind, names []string, by deploy.Person) ([]deploy.Setting, error)

	// CompareVariables says what would become of variables if they were set to values, in their order.
	CompareVariables(ctx context.Context, stage deploy.StageRef, kind deploy.VariableKind, values []deploy.Setting) ([]deploy.VariableChange, error)

	// VariableVersions returns the versions of a variable, the newest first.
	VariableVersions(ctx context.Context, stage deploy.StageRef, name string) ([]deploy.VariableVersion, error)

	// RevokeVersions makes that versions of a secret can be had no more: those that are named, or all but the one of now. It returns which.
	RevokeVersions(ctx context.Context, stage deploy.StageRef, name string, versions []int, by deploy.Person) ([]int, error)

	// Recipients are all whose keys open the sealed files.
	Recipients(ctx context.Context) ([]deploy.Recipient, error)

	// AddRecipient and RemoveRecipient seal everything anew for one key more or less; RotateKey for a new one of the controller's machine.
	AddRecipient(ctx context.Context, name, key string, by deploy.Person) error
	RemoveRecipient(ctx context.Context, name string, by deploy.Person) error
	RotateKey(ctx context.Context, by deploy.Person) error
}

type (
	valuesReply struct {
		Values []namedValue `json:"values"`
	}
	changesReply struct {
		Changes []deploy.VariableChange `json:"changes"`
	}
	versionsReply struct {
		Versions []deploy.VariableVersion `json:"versions"`
	}
	revokeBody struct {
		Name     string        `json:"name"`
		Versions []int         `json:"versions,omitempty"`
		By       deploy.Person `json:"by"`
	}
	revokedReply struct {
		Revoked []int `json:"revoked"`
	}
	recipientsReply struct {
		Recipients []deploy.Recipient `json:"recipients"`
	}
	recipientBody struct {
		Name string        `json:"name,omitempty"`
		Key  string        `json:"key,omitempty"` // public
		By   deploy.Person `json:"by"`
	}
)

// withSecrets makes a handler of one that needs Secrets.
func (s *Server) withSecrets(h func(Secrets, deploy.StageRef, *http.Request) (any, error)) handler {
	return func(_ http.ResponseWriter, r *http.Request) (any, error) {
		keeper, ok := s.service.(Secrets)
		if !ok {
			return nil, fmt.Errorf("%w: this controller keeps no versions of variables", deploy.ErrUnsupported)
		}
		return h(keeper, deploy.StageRef{App: r.PathValue("app"), Stage: r.PathValue("stage")}, r)
	}
}

func settingsOf(values []namedValue) []deploy.Setting {
	all := make([]deploy.Setting, len(values))
	for i, one := range values {
		all[i] = deploy.Setting{Name: one.Name, Value: one.Value.Text}
	}
	return all
}

func changeVariables(v Secrets, stage deploy.StageRef, r *http.Request) (any, error) {
	var q variablesBody
	if err := readSecret(r, &q); err != nil {
		return nil, err
	}
	return nothing{}, v.ChangeVariables(r.Context(), stage, q.Kind, settingsOf(q.Values), q.Names, q.By)
}

func readVariables(v Secrets, stage deploy.StageRef, r *http.Request) (any, error) {
	var q variablesBody
	if err := readSecret(r, &q); err != nil {
		return nil, err
	}
	values, err := v.ReadVariables(r.Context(), stage, q.Kind, q.Names, q.By)
	reply := valuesReply{[]namedValue{}}
	for _, s := range values {
		reply.Values = append(reply.Values, namedValue{s.Name, bare{s.Value}})
	}
	return reply, err
}

func compareVariables(v Secrets, stage deploy.StageRef, r *http.Request) (any, error) {
	var q variablesBody
	if err := readSecret(r, &q); err != nil {
		return nil, err
	}
	changes, err := v.CompareVariables(r.Context(), stage, q.Kind, settingsOf(q.Values))
	return changesReply{changes}, err
}

func variableVersions(v Secrets, stage deploy.StageRef, r *http.Request) (any, error) {
	q, err := queryOf(r, "name")
	if err != nil {
		return nil, fmt.Errorf("%w: the query is not what it should be", deploy.ErrBadInput)
	}
	versions, err := v.VariableVersions(r.Context(), stage, q["name"])
	return versionsReply{versions}, err
}

func revokeVersions(v Secrets, stage deploy.StageRef, r *http.Request) (any, error) {
	var q revokeBody
	if err := readSecret(r, &q); err != nil {
		return nil, err
	}
	revoked, err := v.RevokeVersions(r.Context(), stage, q.Name, q.Versions, q.By)
	return revokedReply{revoked}, err
}

func listRecipients(v Secrets, _ deploy.StageRef, r *http.Request) (any, error) {
	all, err := v.Recipients(r.Context())
	return recipientsReply{all}, err
}

// changeRecipients reads what a private key may stand in by mistake.
func changeRecipients(do func(v Secrets, ctx context.Context, q recipientBody) error) func(Secrets, deploy.StageRef, *http.Request) (any, error) {
	return func(v Secrets, _ deploy.StageRef, r *http.Request) (any, error) {
		var q recipientBody
		if err := readSecret(r, &q); err != nil {
			return nil, err
		}
		return nothing{}, do(v, r.Context(), q)
	}
}

func addRecipient(v Secrets, ctx context.Context, q recipientBody) error {
	return v.AddRecipient(ctx, q.Name, q.Key, q.By)
}

func removeRecipient(v Secrets, ctx context.Context, q recipientBody) error {
	return v.RemoveRecipient(ctx, q.Name, q.By)
}

func rotateKey(v Secrets, ctx context.Context, q recipientBody) error { return v.RotateKey(ctx, q.By) }

func named(values []deploy.Setting) (all []namedValue, err error) {
	for _, s := range values {
		if err := s.Problem(); err != nil { // before JSON makes something else of it
			return nil, err
		}
		all = append(all, namedValue{s.Name, bare{s.Value}})
	}
	return all, nil
}

// ChangeVariables keeps values for a stage and takes names away, all or none.
func (c *Client) ChangeVariables(ctx context.Context, stage deploy.StageRef, kind deploy.VariableKind, values []deploy.Setting, remove []string, by deploy.Person) error {
	all, err := named(values)
	if err != nil {
		return err
	}
	return c.call(ctx, http.MethodPost, stagePath(stage, "variables/change"), variablesBody{Kind: kind, Values: all, Names: remove, By: by}, &nothing{})
}

// ReadVariables returns values of a stage: those of names, or of all of the kind. That somebody read them is in the ledger.
func (c *Client) ReadVariables(ctx context.Context, stage deploy.StageRef, kind deploy.VariableKind, names []string, by deploy.Person) ([]deploy.Setting, error) {
	var r valuesReply
	err := c.call(ctx, http.MethodPost, stagePath(stage, "variables/values"), variablesBody{Kind: kind, Names: names, By: by}, &r)
	return settingsOf(r.Values), err
}

// CompareVariables says what would become of variables of a stage if they were set to values, in their order.
func (c *Client) CompareVariables(ctx context.Context, stage deploy.StageRef, kind deploy.VariableKind, values []deploy.Setting) ([]deploy.VariableChange, error) {
	all, err := named(values)
	if err != nil {
		return nil, err
	}
	var r changesReply
	err = c.call(ctx, http.MethodPost, stagePath(stage, "variables/comparison"), variablesBody{Kind: kind, Values: all}, &r)
	return r.Changes, err
}

// VariableVersions returns the versions of a variable of a stage, the newest first.
func (c *Client) VariableVersions(ctx context.Context, stage deploy.StageRef, name string) ([]deploy.VariableVersion, error) {
	var r versionsReply
	err := c.call(ctx, http.MethodGet, stagePath(stage, "variables/versions")+"?name="+url.QueryEscape(name), nil, &r)
	return r.Versions, err
}

// RevokeVersions makes that versions of a secret can be had no more: those that are named, or all but the one of now. It returns which.
func (c *Client) RevokeVersions(ctx context.Context, stage deploy.StageRef, name string, versions []int, by deploy.Person) ([]int, error) {
	var r revokedReply
	err := c.call(ctx, http.MethodPost, stagePath(stage, "variables/revocations"), revokeBody{name, versions, by}, &r)
	return r.Revoked, err
}

// Recipients are all whose keys open the sealed files of the controller.
func (c *Client) Recipients(ctx context.Context) ([]deploy.Recipient, error) {
	var r recipientsReply
	err := c.call(ctx, http.MethodGet, "/v1/recipients", nil, &r)
	return r.Recipients, err
}

// AddRecipient seals everything for one more public key.
func (c *Client) AddRecipient(ctx context.Context, name, key string, by deploy.Person) error {
	return c.call(ctx, http.MethodPost, "/v1/recipients", recipientBody{name, key, by}, &nothing{})
}

// RemoveRecipient seals everything anew without one key.
func (c *Client) RemoveRecipient(ctx context.Context, name string, by deploy.Person) error {
	return c.call(ctx, http.MethodDelete, "/v1/recipients", recipientBody{Name: name, By: by}, &nothing{})
}

// RotateKey gives the controller's machine a new key and seals everything for it.
func (c *Client) RotateKey(ctx context.Context, by deploy.Person) error {
	return c.call(ctx, http.MethodPost, "/v1/recipients/rotation", recipientBody{By: by}, &nothing{})
}
