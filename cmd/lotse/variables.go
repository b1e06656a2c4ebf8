package main

import (
	"context"
	"encoding/json"
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
)

type variableData struct {
	Name string              `json:"name"`
	Kind deploy.VariableKind `json:"kind"`
}

func (v variables) SetVariables(ctx context.Context, stage deploy.StageRef, kind deploy.VariableKind, values []deploy.Setting, by deploy.Person) error {
	actor, err := v.actor(ctx, by)
	if err != nil {
		return err
	}
	names := make([]string, len(values))
	for i, one := range values {
		names[i] = one.Name
	}
	return v.vault.Set(ctx, stage, kind, values, actor, v.record(ctx, deploy.KindVariableSet, stage, actor, kind, names))
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
			data, err := json.Marshal(variableData{name, kind})
			if err == nil {
				_, err = v.ledger.Append(ctx, deploy.Event{Kind: event, App: stage.App, Stage: stage.Stage, Actor: actor, Data: data})
			}
			if err != nil {
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
