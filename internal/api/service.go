// Package api is the controller's verbs on the wire: HTTP and JSON on a unix socket. One service, its server, its client.
//
//	POST /v1/rollouts                       deploy.Request              {"id"}
//	POST /v1/promotions                     deploy.Move                 {"id"}
//	POST /v1/rollbacks                      deploy.Move                 {"id"}
//	POST /v1/redeploys                      deploy.Move                 {"id"}
//	GET  /v1/rollouts?app=&stage=&limit=                                {"rollouts"}, the newest first
//	GET  /v1/rollouts/{id}                                              {"rollout"}
//	POST /v1/rollouts/{id}/abort                                        {}
//	POST /v1/rollouts/{id}/resume                                       {}
//	GET  /v1/rollouts/{id}/record                                       {"record"}: deploy.RolloutRecord
//	POST /v1/approvals                      deploy.ApprovalRequest      {"approval"}
//	POST /v1/freezes                        deploy.Frost                {}
//	POST /v1/thaws                          deploy.Frost                {}
//	POST /v1/plans                          deploy.PlanRequest          {"plan"}
//	GET  /v1/dora?app=&stage=&since=                                    {"figures"}: []deploy.Dora
//	GET  /v1/rollouts/{id}/updates                                      stream of deploy.Update
//	POST /v1/ends                           {"stage", "by"}             {}, when nothing of the stage runs any more
//	POST /v1/holds                          deploy.Closing              {"closed"}; without bounds it ends the hold
//	POST /v1/maintenances                   deploy.Closing              {"closed"}; without a page it ends the maintenance
//	GET  /v1/stages                                                     {"stages"}
//	GET  /v1/stages/{app}/{stage}/logs?rollout=&service=&lines=&since=&follow= stream of deploy.LogLine
//	GET  /v1/releases/{digest}                                          {"release"}
//	POST /v1/names                          {"ids"}                     {"names"}
//	POST /v1/pushes                         {"dir"}                     {"stages"}: whose repository that is, and which look at it now
//	GET  /v1/apps/{app}/stages/{stage}/variables                        {"variables"}; secrets without their values
//	POST /v1/apps/{app}/stages/{stage}/variables   {"kind", "values", "by"} {}
//	DELETE /v1/apps/{app}/stages/{stage}/variables {"kind", "names", "by"}  {}
//	POST /v1/apps/{app}/stages/{stage}/variables/change      {"kind", "values", "names", "by"} {}; the names are taken away
//	POST /v1/apps/{app}/stages/{stage}/variables/values      {"kind", "names", "by"}  {"values"}
//	POST /v1/apps/{app}/stages/{stage}/variables/comparison  {"kind", "values"}       {"changes"}: []deploy.VariableChange
//	GET  /v1/apps/{app}/stages/{stage}/variables/versions?name=                       {"versions"}: []deploy.VariableVersion
//	POST /v1/apps/{app}/stages/{stage}/variables/revocations {"name", "versions", "by"} {"revoked"}: numbers
//	GET  /v1/recipients                                                 {"recipients"}: []deploy.Recipient
//	POST /v1/recipients                     {"name", "key", "by"}       {}
//	DELETE /v1/recipients                   {"name", "by"}              {}
//	POST /v1/recipients/rotation            {"by"}                      {}
//	GET  /v1/apps/{app}/stages/{stage}/password                         {"password"}
//	POST /v1/apps/{app}/stages/{stage}/password    {"by"}               {"password"}, a new one
//	POST /v1/notices/test                   deploy.NoticeTest           {"notices"}: []deploy.NoticeResult
//	POST /v1/snapshots                      deploy.DataRequest          {"job"}
//	GET  /v1/snapshots?app=&stage=                                      {"snapshots"}, the oldest first
//	POST /v1/drills                         deploy.DataRequest          {"job"}
//	POST /v1/restores                       deploy.DataRequest          {"job"}
//	POST /v1/copies                         deploy.DataRequest          {"job"}
//	GET  /v1/people?app=&stage=                                         deploy.People
//	POST /v1/forgets                        deploy.DataRequest          {}
//	GET  /v1/data?app=&stage=                                           {"data"}: []deploy.DataStatus
//	GET  /v1/data/jobs/{job}                                            stream of deploy.DataJob
//	GET  /v1/ping                                                       Pong
//
// An error is {"error": {code, message, hint, details}} under a status that fits. A stream is lines of JSON, each {"item": …};
// its last line is {"end": true} or {"error": …}. A stream that ends without one was cut off. Durations are nanoseconds.
//
// Who may open the socket may do everything: it belongs to the user of the controller, mode 0600.
package api

import (
	"context"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Service is what is served. *deploy.Controller is one. Its methods are called from many goroutines at once, and none before
// Ready is closed.
type Service interface {
	Ready() <-chan struct{}
	Deploy(ctx context.Context, q deploy.Request) (id string, err error)
	Promote(ctx context.Context, q deploy.Move) (id string, err error)
	Rollback(ctx context.Context, q deploy.Move) (id string, err error)
	Redeploy(ctx context.Context, q deploy.Move) (id string, err error)
	Abort(ctx context.Context, id string) error
	End(ctx context.Context, stage deploy.StageRef, by deploy.Person) error
	Hold(ctx context.Context, q deploy.Closing) (deploy.Closed, error)
	Maintain(ctx context.Context, q deploy.Closing) (deploy.Closed, error)
	Contract(ctx context.Context, q deploy.Contracting) error
	Follow(ctx context.Context, id string, yield func(deploy.Update) error) error
	Status(ctx context.Context) ([]deploy.StageStatus, error)
	History(ctx context.Context, app, stage string, limit int) ([]deploy.Rollout, error)
	Rollout(ctx context.Context, id string) (deploy.Rollout, error)
	Release(ctx context.Context, id deploy.Digest) (deploy.Release, error)
	Logs(ctx context.Context, stage deploy.StageRef, q deploy.LogQuery, yield func(deploy.LogLine) bool) error
	Rules
}

var _ Service = (*deploy.Controller)(nil)

// Names is what a Service has that knows the names of people. Who is unknown, or was forgotten, is left out.
type Names interface {
	Names(ctx context.Context, ids []string) map[string]string
}

// Update is one piece of news of a rollout: a controller's, or a change of the connection to it.
type Update struct {
	deploy.Update
	Connection Connection `json:"connection,omitempty"`
}

// Connection is said by the client alone, between two updates.
type Connection string

// The changes of a connection.
const (
	Lost Connection = "lost" // the controller went away; the client tries to reach it again
	Back Connection = "back" // it is there again; what follows begins with all that is known of the rollout
)

// Pong says who answers.
type Pong struct {
	Version string `json:"version"`
	PID     int    `json:"pid"`
}
