package migrate

import (
	"context"
	_ "embed"
	"errors"
	"strings"
)

// supabaseSchema is what every project of Supabase has before its first migration, as far as migrations speak of it.
//
//go:embed supabase.sql
var supabaseSchema string

// supabase makes the roles, schemas and functions of a project of Supabase.
func (s *scratch) supabase(ctx context.Context, database string) error {
	conn, err := s.superuser(ctx, database)
	if err != nil {
		return err
	}
	for _, role := range []string{"anon", "authenticated", "service_role", "authenticator", "supabase_admin", "supabase_auth_admin", "supabase_storage_admin", "dashboard_user", "postgres"} {
		if err := s.addRole(ctx, conn, role); err != nil {
			return errors.Join(err, conn.Close(ctx))
		}
	}
	_, err = conn.PgConn().Exec(ctx, strings.ReplaceAll(supabaseSchema, "RUNNER", `"`+s.role+`"`)).ReadAll()
	return errors.Join(err, conn.Close(ctx))
}
