package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/proxy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// lockVariable is what the front reads the lock of a private stage from.
const lockVariable = "LOTSE_PRIVATE"

// lockReference is the lock of the stage's password, as a reference to a secret. The same password keeps its lock, and with it everybody
// signed in.
func (e *Engine) lockReference(ctx context.Context, password secret.Text) (deploy.Setting, error) {
	out := deploy.Setting{Name: lockVariable}
	text, arn, err := e.readSecret(ctx, e.secretName(lockVariable))
	if err != nil {
		return out, err
	}
	var lock proxy.Private
	if json.Unmarshal([]byte(text), &lock) == nil && lock.Verifier != "" && lock.Opens(password) {
		out.Value, out.Reference = secret.New(text), arn
		return out, nil
	}
	made, err := proxy.NewPrivate(password, e.PasswordCost)
	if errors.Is(err, proxy.ErrInvalid) {
		err = fmt.Errorf("%w: %w", deploy.ErrBadInput, err)
	}
	if err != nil {
		return out, err
	}
	raw, err := json.Marshal(made)
	if err != nil {
		return out, err
	}
	out.Value = secret.New(string(raw))
	out.Reference, err = e.writeSecret(ctx, e.secretName(lockVariable), string(raw), arn)
	return out, err
}

// readSecret returns a secret and its ARN, both "" where it is not there.
func (e *Engine) readSecret(ctx context.Context, id string) (text, arn string, err error) {
	out, err := e.api.secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &id})
	if coded(err, "ResourceNotFoundException") {
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	return sdk.ToString(out.SecretString), sdk.ToString(out.ARN), nil
}

// writeSecret makes a secret of the engine's own, or gives it a new value where it has an ARN already.
func (e *Engine) writeSecret(ctx context.Context, name, text, arn string) (string, error) {
	if arn == "" {
		out, err := e.api.secrets.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: &name, SecretString: &text, Description: sdk.String("Lotse: " + e.key()),
			Tags: []types.Tag{{Key: sdk.String(tagApp), Value: &e.App}, {Key: sdk.String(tagStage), Value: &e.Stage.Name}}})
		if err == nil {
			return sdk.ToString(out.ARN), nil
		}
		if !coded(err, "ResourceExistsException") {
			return "", err
		}
		arn = name // another start has made it just now
	}
	out, err := e.api.secrets.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{SecretId: &arn, SecretString: &text})
	if err != nil {
		return "", err
	}
	return sdk.ToString(out.ARN), nil
}

// databaseName is what the stack calls the database in every PostgreSQL.
const databaseName = "app"

// DatabaseURL implements deploy.Databases: the value for who runs the migrations, and a reference for the platform, which does not
// show the value to anybody.
func (e *Engine) DatabaseURL(ctx context.Context, db deploy.Database) (deploy.Setting, error) {
	s, err := e.databaseURL(ctx, db)
	return s, e.failed(ctx, "database", err)
}

func (e *Engine) databaseURL(ctx context.Context, db deploy.Database) (deploy.Setting, error) {
	out := deploy.Setting{Name: deploy.DatabaseURL}
	s, err := e.databaseOf(ctx, db)
	if err != nil {
		return out, err
	}
	master, arn, err := e.readSecret(ctx, s.databaseSecret)
	if err != nil {
		return out, err
	}
	var login struct{ Username, Password string }
	if json.Unmarshal([]byte(master), &login) != nil || login.Username == "" || arn == "" {
		return out, deploy.Hint(fmt.Errorf("%w: the secret of the database of %s has no username and password", deploy.ErrDamaged, e.Stage.Name),
			"look at it in Secrets Manager; `lotse infra plan` shows what was changed by hand")
	}
	address := url.URL{Scheme: "postgres", User: url.UserPassword(login.Username, login.Password), Host: net.JoinHostPort(s.databaseHost, "5432"), Path: "/" + databaseName,
		RawQuery: "sslmode=verify-full&sslrootcert=" + authorities}
	text := address.String()
	out.Value = secret.New(text)
	was, arn, err := e.readSecret(ctx, e.secretName(deploy.DatabaseURL))
	if err != nil || was == text {
		out.Reference = arn
		return out, err
	}
	out.Reference, err = e.writeSecret(ctx, e.secretName(deploy.DatabaseURL), text, arn)
	return out, err
}

// databaseOf is the stack, which must have a database for the stage.
func (e *Engine) databaseOf(ctx context.Context, db deploy.Database) (*stack, error) {
	if !db.Own() {
		return nil, fmt.Errorf("%w: the stage has no database of its own", deploy.ErrBadInput)
	}
	s, err := e.outputs(ctx)
	if err == nil && s.databaseHost == "" {
		err = deploy.Hint(fmt.Errorf("%w: the stack %s has no database for %s", deploy.ErrMissing, e.stackName(), e.Stage.Name), "`lotse infra apply` makes it")
	}
	return s, err
}

// OpenDatabase implements deploy.Databases. RDS makes, starts and restarts it: here it is only looked at.
func (e *Engine) OpenDatabase(ctx context.Context, fence deploy.Fence, db deploy.Database) error {
	err := e.admit(ctx, fence)
	if err == nil {
		err = e.openDatabase(ctx, db)
	}
	return e.failed(ctx, "database", err)
}

func (e *Engine) openDatabase(ctx context.Context, db deploy.Database) error {
	name, err := e.databaseInstance(ctx, db)
	if err != nil {
		return err
	}
	return e.await(ctx, e.Timing.Launch, "the database", func(ctx context.Context) (bool, error) {
		there, err := e.describeInstance(ctx, name)
		if err != nil {
			return false, err
		}
		if there == nil {
			return false, gone(name)
		}
		if major, _, _ := strings.Cut(sdk.ToString(there.EngineVersion), "."); major != fmt.Sprint(db.Postgres) {
			return false, deploy.Hint(fmt.Errorf("%w: the database has PostgreSQL %s, and lotse.yaml says %d", deploy.ErrBadInput, major, db.Postgres),
				"a new major version is a change of the database itself: write the one that it has")
		}
		return instanceUsable(*there)
	})
}

// MigratesInStart implements deploy.Migrates: RDS is reached from the network of the instances alone.
func (e *Engine) MigratesInStart(db deploy.Database) bool { return db.Own() }
