package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/deploy"
)

func (s *session) databaseCommand() *cobra.Command {
	c := &cobra.Command{Use: "db", Aliases: []string{"database"}, Short: "Snapshots of a stage's data, drills, restores",
		Long: "Snapshots are copies of a stage's database and volumes that can be restored; a drill is the proof that one can. Lotse takes one a day,\n" +
			"and one before each migration. docs/restore.md says how to come back after a loss."}
	c.AddCommand(s.dbStatusCommand(), s.dbSnapshotCommand(), s.dbSnapshotsCommand(), s.dbDrillCommand(), s.dbRestoreCommand(), s.dbCopyCommand(), s.dbPeopleCommand(),
		s.dbForgetCommand(), s.databaseContractCommand())
	if s.Recover != nil {
		c.AddCommand(s.dbRecoverCommand())
	}
	if s.DropDatabase != nil {
		c.AddCommand(s.databaseDropCommand())
	}
	if s.JudgeMigrations != nil {
		c.AddCommand(s.databaseJudgeCommand())
	}
	return c
}

// stageOf has the flag of a command that works with the data of one stage.
func (s *session) stageOf(c *cobra.Command, q *deploy.DataRequest) {
	c.Flags().StringVar(&q.Stage, "stage", "", "the stage, or app/stage")
	c.ValidArgsFunction = cobra.NoFileCompletions
}

// meant fills in the app and the stage that are meant, and who asks.
func (s *session) meant(ctx context.Context, q *deploy.DataRequest) error {
	found, err := s.stageHere(ctx, q.Stage)
	q.App, q.Stage, q.By = found.App, found.Stage, s.who()
	return err
}

// job begins something and shows how it goes on until it is over.
func (s *session) job(ctx context.Context, q deploy.DataRequest, begin func(*api.Client, context.Context, deploy.DataRequest) (string, error)) error {
	if err := s.meant(ctx, &q); err != nil {
		return err
	}
	client := s.client()
	id, err := begin(client, ctx, q)
	if err != nil {
		return err
	}
	var last deploy.DataJob
	begun, shown := false, 0
	err = client.FollowData(ctx, id, func(j deploy.DataJob) error {
		last = j
		if s.json {
			return s.line(j)
		}
		if !begun {
			begun = true
			s.say("%s of %s: job %s", j.Verb, cleanLine(j.Stage.String()), cleanLine(j.ID))
		}
		for ; shown < len(j.Steps); shown++ {
			s.say("  %s", cleanLine(j.Steps[shown].Name))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if last.Failed != "" {
		return &failure{Code: last.Code, Message: last.Failed, Hint: last.Hint}
	}
	if !s.json {
		s.sayJob(last)
	}
	return nil
}

func (s *session) sayJob(j deploy.DataJob) {
	stage := cleanLine(j.Stage.Stage)
	switch {
	case j.Taken != nil:
		s.say("snapshot %s: %s of %s, in %s; a drill proves it next, `lotse db status --stage %s` shows it",
			cleanLine(j.Taken.ID), humanize.IBytes(uint64(max(0, j.Taken.Size))), countOf(j.Taken.Rows, "row", "rows"), took(j.Taken.Took), stage)
	case j.Proof != nil:
		is := "is what it was"
		if j.Proof.Compared != "" {
			is = "was compared so far: " + cleanLine(j.Proof.Compared)
		}
		s.say("snapshot %s is proven: it came back in %s and %s", cleanLine(j.Snapshot), took(j.Proof.Took), is)
		if len(j.Pruned) > 0 {
			s.say("%s went by the rule", countOf(int64(len(j.Pruned)), "older snapshot", "older snapshots"))
		}
	default:
		s.say("%s", cleanLine(j.Says))
		s.say("`lotse db forget %s --stage %s` deletes what it had until now", cleanLine(j.Kept), stage)
	}
}

func countOf(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return humanize.Comma(n) + " " + many
}

func (s *session) dbSnapshotCommand() *cobra.Command {
	var q deploy.DataRequest
	c := &cobra.Command{Use: "snapshot", Short: "Take a snapshot of a stage's data now", Args: cobra.NoArgs,
		Long: "Copies the database and the volumes of a stage as they are at one moment, encrypted, while the stage goes on. A drill proves the\ncopy afterwards.",
		RunE: s.run(func(ctx context.Context, _ []string) error { return s.job(ctx, q, (*api.Client).TakeSnapshot) })}
	s.stageOf(c, &q)
	c.Flags().StringVar(&q.Reason, "reason", "", "why, for the history")
	return c
}

func (s *session) dbDrillCommand() *cobra.Command {
	var q deploy.DataRequest
	c := &cobra.Command{Use: "drill [ID]", Short: "Prove that a snapshot can be restored", Args: cobra.MaximumNArgs(1),
		Long: "Restores a snapshot, without an ID the newest, where nobody works with it, compares what came back with what was copied, and runs the\napp's own check on it where lotse.yaml has one.",
		RunE: s.run(func(ctx context.Context, args []string) error {
			q.ID = strings.Join(args, "")
			return s.job(ctx, q, (*api.Client).Drill)
		})}
	s.stageOf(c, &q)
	return c
}

func (s *session) dbRestoreCommand() *cobra.Command {
	var q deploy.DataRequest
	c := &cobra.Command{Use: "restore ID", Short: "Bring a stage's data back to a snapshot", Args: cobra.ExactArgs(1),
		Long: "Restores a snapshot into a new database beside the stage's, and new folders beside its volumes, compares and checks what came back,\n" +
			"and switches to it while requests wait, which takes about a second. What the stage had is kept until `lotse db forget`. Where anything\nmisses, the stage goes on with what it has.",
		RunE: s.run(func(ctx context.Context, args []string) error {
			q.ID = args[0]
			return s.job(ctx, q, (*api.Client).Restore)
		})}
	s.stageOf(c, &q)
	c.Flags().StringVar(&q.To, "to", "", "another stage: refused, unless people are masked")
	c.Flags().StringVar(&q.Reason, "reason", "", "why, for the history")
	return c
}

func (s *session) dbForgetCommand() *cobra.Command {
	var q deploy.DataRequest
	c := &cobra.Command{Use: "forget ID", Short: "Delete what a restore has kept", Args: cobra.ExactArgs(1),
		Long: "Deletes the data that a stage had until a restore. `lotse db status` lists what is kept. There is no way back.",
		RunE: s.run(func(ctx context.Context, args []string) error {
			q.ID = args[0]
			if err := s.meant(ctx, &q); err != nil {
				return err
			}
			if err := s.client().Forget(ctx, q); err != nil {
				return err
			}
			if s.json {
				return s.answer(map[string]string{"forgotten": q.ID})
			}
			s.say("what %s had until restore %s is deleted", cleanLine(q.Stage), cleanLine(q.ID))
			return nil
		})}
	s.stageOf(c, &q)
	return c
}

func (s *session) dbSnapshotsCommand() *cobra.Command {
	var q deploy.DataRequest
	c := &cobra.Command{Use: "snapshots", Short: "List the snapshots of a stage", Args: cobra.NoArgs,
		RunE: s.run(func(ctx context.Context, _ []string) error {
			if err := s.meant(ctx, &q); err != nil {
				return err
			}
			all, err := s.client().ListSnapshots(ctx, q.App, q.Stage)
			if err != nil {
				return err
			}
			if s.json {
				return s.answer(all)
			}
			if len(all) == 0 {
				s.say("%s has no snapshot; `lotse db snapshot --stage %s` takes one", cleanLine(q.Stage), cleanLine(q.Stage))
				return nil
			}
			var rows [][]string
			for _, one := range all {
				rows = append(rows, []string{cleanLine(one.ID), ago(one.At, s.now()), cleanLine(string(one.Why)), humanize.IBytes(uint64(max(0, one.Size))),
					humanize.Comma(one.Rows), took(one.Took), proofOf(one)})
			}
			s.columns([]string{"snapshot", "of", "why", "size", "rows", "took", "proof"}, rows)
			return nil
		})}
	s.stageOf(c, &q)
	return c
}

func proofOf(one deploy.Snapshot) string {
	switch {
	case one.Damaged != "":
		return "damaged: " + cleanLine(one.Damaged)
	case one.Proof == nil:
		return "not proven"
	case one.Proof.Wrong != "":
		return "fails: " + cleanLine(one.Proof.Wrong)
	}
	return "proven, came back in " + took(one.Proof.Took)
}

func (s *session) dbStatusCommand() *cobra.Command {
	var stage string
	c := &cobra.Command{Use: "status", Short: "Show how safe the data of stages is", Args: cobra.NoArgs,
		Long: "For each stage: the last snapshot, the last one that is proven, what a loss now would cost by that, and how long coming back takes, as\nthe drill has measured it. No news is not taken for good news.",
		RunE: s.run(func(ctx context.Context, _ []string) error {
			app, named := stageFlag(stage)
			all, err := s.client().DataStatus(ctx, s.appHere(app), named)
			if err != nil {
				return err
			}
			if s.json {
				return s.answer(all)
			}
			if len(all) == 0 {
				s.say("no stage serves anything")
			}
			for _, one := range all {
				s.sayData(one)
			}
			return nil
		})}
	c.Flags().StringVar(&stage, "stage", "", "the stage, or app/stage (all)")
	return c
}

func (s *session) sayData(one deploy.DataStatus) {
	now := s.now()
	when := func(of *deploy.Snapshot) string {
		if of == nil {
			return "none"
		}
		return fmt.Sprintf("%s, %s, %s", of.ID, ago(of.At, now), humanize.IBytes(uint64(max(0, of.Size))))
	}
	loss, back := "everything", "nobody knows"
	if one.Loss != nil {
		loss = "the last " + minutes(*one.Loss)
	}
	if one.Back != nil {
		back = took(*one.Back) + ", measured"
	}
	compared := ""
	if one.Proven != nil && one.Proven.Proof != nil {
		compared = one.Proven.Proof.Compared
	}
	daily := one.At
	if daily == "" {
		daily = "off"
	}
	going := ""
	if one.Going != nil {
		going = fmt.Sprintf("%s %s, since %s", one.Going.Verb, one.Going.ID, ago(one.Going.Began, now))
	}
	s.pairs("stage", one.Stage.String(), "daily at", daily, "snapshots", humanize.Comma(int64(one.Snapshots)), "last", when(one.Last), "proven", when(one.Proven), "compared", compared,
		"a loss costs", loss, "coming back", back, "on its way", going, "wrong", one.Wrong, "note", one.Hint)
	for _, k := range one.Kept {
		s.say("kept from before restore %s: %s, %s; `lotse db forget %s --stage %s` deletes it", cleanLine(k.ID), orDash(cleanLine(k.Database)),
			humanize.IBytes(uint64(max(0, k.Bytes))), cleanLine(k.ID), cleanLine(one.Stage.Stage))
	}
}

// minutes is a time in which data would be lost.
func minutes(d time.Duration) string {
	n := int64(d.Round(time.Minute).Minutes())
	if n == 1 {
		return "minute"
	}
	return humanize.Comma(n) + " minutes"
}

// RecoverOptions say what is to come back on a machine that has nothing yet.
type RecoverOptions struct {
	State string
	From  string // folder of snapshots, or s3://BUCKET/PREFIX
	Key   string // file with the age identity
	App   string
	Stage string
	ID    string // empty: the newest that is whole
	Say   func(line string)
}

// Recovered is what came back.
type Recovered struct {
	Stage    deploy.StageRef   `json:"stage"`
	Snapshot deploy.Snapshot   `json:"snapshot"`
	Folder   string            `json:"folder"`            // of the cluster
	Volumes  map[string]string `json:"volumes,omitempty"` // and their folders
	Took     time.Duration     `json:"took"`
}

func (s *session) dbRecoverCommand() *cobra.Command {
	var o RecoverOptions
	var stage string
	c := &cobra.Command{Use: "recover", Short: "Bring a stage's data back on a machine that has nothing", Args: cobra.NoArgs,
		Long: "From the folder of snapshots and the key alone: makes the database of APP/STAGE below the state folder, restores the newest snapshot\n" +
			"into it with the volumes, and compares. `lotse serve` and a deploy then find it. Refused where the stage has data already.",
		RunE: s.run(func(ctx context.Context, _ []string) error {
			o.State, o.From, o.Key = s.stateFolder(), folderOrBucket(o.From), absolute(o.Key)
			o.App, o.Stage = stageFlag(stage)
			o.Say = func(line string) {
				if !s.json {
					s.say("%s", cleanLine(line))
				}
			}
			switch {
			case o.From == "" || o.Key == absolute("") || o.App == "" || o.Stage == "":
				return deploy.Hint(fmt.Errorf("%w: from, key and stage are needed", deploy.ErrBadInput), "lotse db recover --from FOLDER --key FILE --stage APP/STAGE")
			}
			back, err := s.Recover(ctx, o)
			if err != nil {
				return err
			}
			if s.json {
				return s.answer(back)
			}
			s.say("%s has what it had %s (snapshot %s, %s), after %s", cleanLine(back.Stage.String()), ago(back.Snapshot.At, s.now()),
				cleanLine(back.Snapshot.ID), countOf(back.Snapshot.Rows, "row", "rows"), took(back.Took))
			s.say("`lotse serve`, then a deploy of the release that it served, brings the app back")
			return nil
		})}
	c.Flags().StringVar(&o.From, "from", "", "folder of snapshots, or s3://BUCKET/PREFIX")
	c.Flags().StringVar(&o.Key, "key", "", "file with the key of the snapshots")
	c.Flags().StringVar(&stage, "stage", "", "APP/STAGE")
	c.Flags().StringVar(&o.ID, "snapshot", "", "which one (the newest)")
	return c
}

func folderOrBucket(from string) string {
	if from == "" || strings.HasPrefix(from, "s3://") {
		return from
	}
	return absolute(from)
}
