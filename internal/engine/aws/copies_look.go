package aws

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	"github.com/aws/aws-sdk-go-v2/service/rds/types"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Exit codes of `lotse front look`. The two are of rooms that do not see each other; a test holds them together.
const (
	lookUsage    = 2 // the release was built with an older Lotse
	lookDamaged  = 65
	lookTryAgain = 75
)

// look asks one of the stage's instances how the database looks, or the one at another host and port that has the same roles.
func (e *Engine) look(ctx context.Context, at, rows string, limit time.Duration) (look deploy.Look, err error) {
	id, err := e.machineToAsk(ctx)
	if err != nil {
		return look, err
	}
	command := ".lotse/bin/lotse front look --rows " + rows
	if at != "" {
		command += " --at " + at
	}
	heard, err := e.order(ctx, []string{id}, lotseThere+" front task --quiet --name look -- "+quoted(command), limit)
	if err != nil {
		return look, err
	}
	s := heard[id]
	switch {
	case s.err != nil:
		return look, s.err
	case s.code == 0:
		return unpacked(s.out)
	}
	why := clean(strings.Join(lastLines(s.out+s.errs, 3), "; "))
	switch s.code {
	case lookUsage:
		err = fmt.Errorf("%w: what the stage serves has an older Lotse in it, which cannot look at databases", deploy.ErrUnsupported)
	case lookDamaged:
		err = fmt.Errorf("%w: %s", deploy.ErrDamaged, strings.TrimPrefix(strings.TrimPrefix(why, "lotse front: "), deploy.ErrDamaged.Error()+": "))
	case lookTryAgain:
		err = fmt.Errorf("%w: asked from %s: %s", deploy.ErrUnavailable, id, why)
	default:
		err = fmt.Errorf("a look at the database from %s ended with %d: %s", id, s.code, why)
	}
	return look, err
}

func unpacked(text string) (look deploy.Look, err error) {
	raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err == nil {
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(raw)); err == nil {
			raw, err = io.ReadAll(io.LimitReader(z, 16<<20))
		}
	}
	if err == nil {
		err = json.Unmarshal(raw, &look)
	}
	if err != nil || look.Schema == "" {
		return look, fmt.Errorf("%w: what was said of the database cannot be read", deploy.ErrUnavailable)
	}
	return look, nil
}

// machineToAsk is an instance of the rollout that has most of the traffic.
func (e *Engine) machineToAsk(ctx context.Context) (string, error) {
	all, err := e.environments(ctx)
	if err != nil {
		return "", err
	}
	shares, err := e.lb.shares(ctx, all)
	if err != nil {
		return "", err
	}
	all = slices.DeleteFunc(all, func(v environment) bool { return v.parking() || !v.ready() })
	slices.SortStableFunc(all, func(a, b environment) int { return shares[b.rollout()] - shares[a.rollout()] })
	for _, v := range all {
		ids, err := e.machinesOf(ctx, v)
		if err != nil {
			return "", err
		}
		if len(ids) > 0 {
			return ids[0], nil
		}
	}
	return "", fmt.Errorf("%w: no machine of %s is there, and the database is reached from those alone", deploy.ErrUnavailable, e.key())
}

// databaseInstance is the name of the stage's database instance.
func (e *Engine) databaseInstance(ctx context.Context, db deploy.Database) (string, error) {
	s, err := e.databaseOf(ctx, db)
	if err != nil {
		return "", err
	}
	name, _, _ := strings.Cut(s.databaseHost, ".")
	return name, nil
}

// describeInstance is a database instance, nil where there is none of that name.
func (e *Engine) describeInstance(ctx context.Context, name string) (*types.DBInstance, error) {
	out, err := e.api.rds.DescribeDBInstances(ctx, &rds.DescribeDBInstancesInput{DBInstanceIdentifier: &name})
	if coded(err, "DBInstanceNotFound", "DBInstanceNotFoundFault") || err == nil && len(out.DBInstances) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &out.DBInstances[0], nil
}

func gone(name string) error {
	return deploy.Hint(fmt.Errorf("%w: the database %s is gone", deploy.ErrNotFound, name), "`lotse infra plan` shows what becomes of it")
}

// instanceUsable reports whether an instance answers, and is an error where it will not by itself.
func instanceUsable(i types.DBInstance) (bool, error) {
	switch state := sdk.ToString(i.DBInstanceStatus); state {
	case "available", "backing-up", "modifying", "storage-optimization", "configuring-enhanced-monitoring", "maintenance":
		return true, nil
	case "stopped", "stopping", "deleting", "failed", "storage-full", "incompatible-parameters", "incompatible-restore", "inaccessible-encryption-credentials":
		return false, deploy.Hint(fmt.Errorf("%w: the database %s is %s", deploy.ErrRefused, sdk.ToString(i.DBInstanceIdentifier), state), "look at it in the console of RDS")
	}
	return false, nil
}

// parsedAddress takes an address of PostgreSQL apart.
func parsedAddress(address secret.Text) (*url.URL, error) {
	u, err := url.Parse(address.Reveal())
	if err != nil || u.Host == "" { // err may repeat a part of it
		return nil, fmt.Errorf("%w: the address of the database is no URL", deploy.ErrDamaged)
	}
	return u, nil
}
