package deploy_test

import (
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Every call of an engine in turn fails, fails though it was done, or hangs, while the controller lives on. Then exactly one release
// serves, the rollout has ended one way or the other, and neither a lease nor an orphan is left. Meanwhile somebody asks the stage all the
// time and always gets an answer.
//
// `make prove` (LOTSE_PROVE=1) has every call go wrong in each way; otherwise every 160th, beginning anywhere, in one way for each voyage.
func TestEveryCallGoesWrong(t *testing.T) {
	for i, name := range []string{"a good release", "a release that falls ill", "a release that is asked a lot", "a canary", "one that cannot run twice", "back to a warm release"} {
		ways := []fault{fails, doneFails, hangs}
		if os.Getenv("LOTSE_PROVE") == "" {
			ways = ways[i%3 : i%3+1]
		}
		for _, f := range ways {
			t.Run(name+", one call "+string(f), func(t *testing.T) {
				v := voyages[name]
				undisturbed := troubled(t, v, &points{fault: f, seen: map[string]int{}})
				if undisturbed.passed < 10 {
					t.Fatalf("only %d calls: %v", undisturbed.passed, undisturbed.names)
				}
				for _, at := range everyNthOf(t, undisturbed.passed, 160) {
					t.Run(fmt.Sprintf("%d %s", at, undisturbed.names[at-1]), func(t *testing.T) {
						troubled(t, v, &points{fault: f, at: at, seen: map[string]int{}})
					})
				}
			})
		}
	}
}

// troubled deploys a second commit while one call of an engine goes wrong, and looks at what has become of it.
func troubled(t *testing.T, v passage, p *points) *points {
	inSite(t, func(t *testing.T, s *site) {
		one := s.sails(v)
		p.board(s)
		s.boot()
		stopAsking := func() {}
		if v.by != deploy.Recreate {
			stopAsking = s.askAllTheTime()
		}
		<-s.Ready()
		id, err := s.begin(v, p)
		if err == nil {
			s.sickens(v, id)
			s.ended(id)
		}
		stopAsking()
		pass(20 * time.Minute) // what was to be retired has gone, also where that was tried again
		synctest.Wait()
		p.calms()
		s.inOrder(one, s.lastRollout())
	})
	return p
}
