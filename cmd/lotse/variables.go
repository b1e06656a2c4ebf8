package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
	"github.com/lotse-eu/lotse/internal/vault"
)

// variables are the vault, with every change of it in the ledger: what was changed and by whom, nothing of any value.
type variables struct {
	vault  *vault.Vault
	ledger deploy.Ledger
}

var (
	_ api.Variables = variables{}
	_ api.Homes     = variables{}
	_ api.Secrets   = variables{}
)

type variableData struct {
	Name     string              `json:"name"`
	Kind     deploy.VariableKind `json:"kind"`
	Versions []int               `json:"versions,omitempty"` // that were revoked
}

func (v variables) SetVariables(ctx context.Context, stage deploy.StageRef, kind deploy.VariableKind, values []deploy.Setting, by deploy.Person) error {
	return v.ChangeVariables(ctx, stage, kind, values, nil, by)
}

func (v variables) ChangeVariables(ctx context.Context, stage deploy.StageRef, kind deploy.VariableKind, values []deploy.Setting, remove []string, by deploy.Person) error {
	actor, err := v.actor(ctx, by)
	if err != nil {
		return err
	}
	names := make([]string, len(values))
	for i, one := range values {
		names[i] = one.Name
	}
	return v.vault.Change(ctx, stage, kind, values, remove, actor, func() error {
		return errors.Join(v.record(ctx, deploy.KindVariableRemoved, stage, actor, kind, remove)(), v.record(ctx, deploy.KindVariableSet, stage, actor, kind, names)())
	})
}

func (v variables) ReadVariables(ctx context.Context, stage deploy.StageRef, kind deploy.VariableKind, names []string, by deploy.Person) ([]deploy.Setting, error) {
	actor, err := v.actor(ctx, by)
	if err != nil {
		return nil, err
	}
	return v.vault.Get(ctx, stage, kind, names, func(read []string) error {
		return v.record(ctx, deploy.KindVariableRead, stage, actor, kind, read)()
	})
}

func (v variables) CompareVariables(ctx context.Context, stage deploy.StageRef, kind deploy.VariableKind, values []deploy.Setting) ([]deploy.VariableChange, error) {
	return v.vault.Compare(ctx, stage, kind, values)
}

func (v variables) VariableVersions(ctx context.Context, stage deploy.StageRef, name string) ([]deploy.VariableVersion, error) {
	return v.vault.Versions(ctx, stage, name)
}

func (v variables) RevokeVersions(ctx context.Context, stage deploy.StageRef, name string, versions []int, by deploy.Person) ([]int, error) {
	actor, err := v.actor(ctx, by)
	if err != nil {
		return nil, err
	}
	return v.vault.Revoke(ctx, stage, name, versions, func(revoked []int) error {
		return v.append(ctx, deploy.Event{Kind: deploy.KindVariableRevoked, App: stage.App, Stage: stage.Stage, Actor: actor}, variableData{name, deploy.SecretVariable, revoked})
	})
}

func (v variables) Recipients(ctx context.Context) ([]deploy.Recipient, error) {
	return v.vault.Recipients(ctx)
}

func (v variables) AddRecipient(ctx context.Context, name, key string, by deploy.Person) error {
	actor, err := v.actor(ctx, by)
	if err != nil {
		return err
	}
	return v.vault.AddRecipient(ctx, name, key, v.happened(ctx, deploy.KindRecipientAdded, actor))
}

func (v variables) RemoveRecipient(ctx context.Context, name string, by deploy.Person) error {
	actor, err := v.actor(ctx, by)
	if err != nil {
		return err
	}
	return v.vault.RemoveRecipient(ctx, name, v.happened(ctx, deploy.KindRecipientRemoved, actor))
}

func (v variables) RotateKey(ctx context.Context, by deploy.Person) error {
	actor, err := v.actor(ctx, by)
	if err != nil {
		return err
	}
	return v.vault.RotateKey(ctx, v.happened(ctx, deploy.KindKeyRotated, actor))
}

// happened writes an event that is of no stage: a name of a recipient may be somebody's, and stays out of it.
func (v variables) happened(ctx context.Context, kind, actor string) func() error {
	return func() error {
		_, err := v.ledger.Append(ctx, deploy.Event{Kind: kind, Actor: actor})
		return err
	}
}

func (v variables) append(ctx context.Context, e deploy.Event, what variableData) (err error) {
	if e.Data, err = json.Marshal(what); err == nil {
		_, err = v.ledger.Append(ctx, e)
	}
	return err
}

func (v variables) RemoveVariables(ctx context.Context, stage deploy.StageRef, kind deploy.VariableKind, names []string, by deploy.Person) error {
	actor, err := v.actor(ctx, by)
	if err != nil {
		return err
	}
	return v.vault.Remove(ctx, stage, kind, names, v.record(ctx, deploy.KindVariableRemoved, stage, actor, kind, names))
}

// actor refuses who is nobody: what was changed by somebody must be known.
func (v variables) actor(ctx context.Context, by deploy.Person) (string, error) {
	if by == (deploy.Person{}) {
		return "", deploy.Hint(fmt.Errorf("%w: who asks is not known", deploy.ErrBadInput), "`git config --global user.name NAME` says who you are")
	}
	return v.ledger.Person(ctx, by.Name, by.Mail)
}

// record writes an event for each name.
func (v variables) record(ctx context.Context, event string, stage deploy.StageRef, actor string, kind deploy.VariableKind, names []string) func() error {
	return func() error {
		for _, name := range slices.Sorted(slices.Values(names)) {
			if err := v.append(ctx, deploy.Event{Kind: event, App: stage.App, Stage: stage.Stage, Actor: actor}, variableData{Name: name, Kind: kind}); err != nil {
				return err
			}
		}
		return nil
	}
}

// Settle implements api.Homes. It changes no variable, so it is no event.
func (v variables) Settle(ctx context.Context, stage deploy.StageRef, home deploy.Home) error {
	return v.vault.Settle(ctx, stage, home)
}

func (v variables) ListVariables(ctx context.Context, stage deploy.StageRef) ([]deploy.Variable, error) {
	return v.vault.List(ctx, stage)
}

func (v variables) Password(ctx context.Context, stage deploy.StageRef) (secret.Text, error) {
	return v.vault.Password(ctx, stage)
}

func (v variables) NewPassword(ctx context.Context, stage deploy.StageRef, by deploy.Person) (secret.Text, error) {
	actor, err := v.actor(ctx, by)
	if err != nil {
		return secret.Text{}, err
	}
	return v.vault.NewPassword(ctx, stage, func() error {
		_, err := v.ledger.Append(ctx, deploy.Event{Kind: deploy.KindPasswordNew, App: stage.App, Stage: stage.Stage, Actor: actor})
		return err
	})
}
