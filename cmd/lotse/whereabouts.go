package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
	"github.com/lotse-eu/lotse/internal/supabase"
)

// whereabouts finds the projects of Supabase that settings point to, and refuses one outside the EU. A project whose region cannot be
// found out is let in, and the evidence says that nobody knows: an API that is down must not hold a rollout up.
func whereabouts(client supabase.Client) func(context.Context, deploy.Stage, []deploy.Setting) ([]deploy.Evidence, error) {
	return func(ctx context.Context, stage deploy.Stage, settings []deploy.Setting) (found []deploy.Evidence, err error) {
		var token secret.Text
		if i := slices.IndexFunc(settings, func(s deploy.Setting) bool { return s.Name == deploy.SupabaseToken }); i >= 0 {
			token = settings[i].Value
		}
		seen := map[supabase.Place]bool{}
		for _, s := range settings {
			place, ok := supabase.Recognise(s.Value)
			if !ok || seen[place] {
				continue
			}
			seen[place] = true
			region, unknown := regionOf(ctx, client, place, token)
			if unknown != "" {
				found = append(found, deploy.Evidence{Probe: "region", Figure: "Supabase of " + s.Name + ": not known: " + unknown})
				continue
			}
			if !deploy.InTheEU(region) && stage.AWS.OutsideEU == "" {
				return found, deploy.Hint(fmt.Errorf("%w: %s points to a project of Supabase in %s, outside the European Union (GDPR, Art. 44)", deploy.ErrRefused, s.Name, region),
					"make the project anew in eu-central-1; Supabase moves none")
			}
			found = append(found, deploy.Evidence{Probe: "region", Figure: "Supabase of " + s.Name + ": " + region})
		}
		return found, nil
	}
}

func regionOf(ctx context.Context, client supabase.Client, place supabase.Place, token secret.Text) (region, unknown string) {
	if place.Region != "" {
		return place.Region, ""
	}
	if token.Empty() {
		return "", "`lotse secrets set " + deploy.SupabaseToken + "` lets Lotse ask"
	}
	region, err := client.Region(ctx, place.Project, token)
	switch {
	case errors.Is(err, supabase.ErrToken):
		return "", "Supabase does not take " + deploy.SupabaseToken
	case err != nil:
		return "", err.Error()
	}
	return region, ""
}
