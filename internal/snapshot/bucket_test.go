package snapshot

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/awsfake/mototest"
	"github.com/lotse-eu/lotse/internal/deploy"
)

const (
	region  = "eu-central-1"
	account = "123456789012"
)

func client(c aws.Config) *s3.Client {
	return s3.NewFromConfig(c, func(o *s3.Options) { o.UsePathStyle = true })
}

// fakeS3 is the FAKE that other rooms are tried on too.
func fakeS3(t *testing.T) (*s3.Client, *awsfake.World) {
	t.Helper()
	w := awsfake.Open(t, awsfake.Options{Account: account, Region: region})
	w.Bucket("snapshots")
	endpoint := w.Endpoint()
	return client(aws.Config{Region: region, BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "example", ""),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = time.Millisecond })
		}}), w
}

// motoS3 is an emulator that we did not write.
func motoS3(t *testing.T) *s3.Client {
	t.Helper()
	c := client(mototest.Start(t, region, "snapshots were not put into an S3 that others wrote"))
	if _, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("snapshots"), CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: region}}); err != nil {
		t.Fatal(err)
	}
	return c
}

func inBucket(c *s3.Client) func(*Config) {
	return func(config *Config) {
		config.Root, config.Bucket = "", &Bucket{S3: c, Name: "snapshots", Prefix: "all/of/them", Owner: account}
	}
}

// large is a folder with a file that takes several parts, and does not compress.
func large(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	random := make([]byte, 20<<20)
	rand.Read(random) // never fails
	if err := os.WriteFile(filepath.Join(dir, "large"), random, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestInABucket goes the whole way with S3: a FAKE, and an emulator.
func TestInABucket(t *testing.T) {
	for name, open := range map[string]func(*testing.T) *s3.Client{"fake": func(t *testing.T) *s3.Client { c, _ := fakeS3(t); return c }, "moto": motoS3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := open(t)
			s, _ := store(t, inBucket(c))
			volume := large(t)
			taken := take(t, s, deploy.Data{Volumes: map[string]string{"uploads": volume}})
			if !strings.HasPrefix(taken.Where, "s3://snapshots/all/of/them/market/prod/") || taken.Size < 20<<20 {
				t.Errorf("%+v", taken)
			}
			if proof, err := s.Prove(bounded(t), stage, taken.ID, nil); err != nil || proof.Wrong != "" {
				t.Fatal(proof, err)
			}
			back := filepath.Join(t.TempDir(), "back")
			if err := s.Restore(bounded(t), stage, taken.ID, deploy.Data{Volumes: map[string]string{"uploads": back}}); err != nil {
				t.Fatal(err)
			}
			one, _ := os.ReadFile(filepath.Join(volume, "large"))
			other, err := os.ReadFile(filepath.Join(back, "large"))
			if err != nil || string(one) != string(other) {
				t.Error("another file came back", err)
			}
			again := take(t, s, deploy.Data{Volumes: map[string]string{"uploads": t.TempDir()}})
			listed, err := s.List(bounded(t), stage)
			if err != nil || len(listed) != 2 || listed[0].Proof == nil || listed[1].ID != again.ID || listed[0].Damaged != "" {
				t.Fatalf("%+v %v", listed, err)
			}
			s.c.Clock = func() time.Time { return time.Now().Add(48 * time.Hour) }
			if gone, err := s.Prune(bounded(t), stage, deploy.Keep{Daily: 1}); err != nil || len(gone) != 0 {
				t.Fatalf("%+v went before a newer one was proven: %v", gone, err)
			}
			if proof, err := s.Prove(bounded(t), stage, again.ID, nil); err != nil {
				t.Fatal(proof, err)
			}
			gone, err := s.Prune(bounded(t), stage, deploy.Keep{Daily: 1})
			of, _ := dir(stage)
			files, err2 := s.place.list(bounded(t), of)
			if ids := foldersIn(files, of); err != nil || err2 != nil || len(gone) != 1 || gone[0].ID != taken.ID || !slices.Equal(ids, []string{again.ID}) {
				t.Errorf("%+v went, %v are left: %v %v", gone, ids, err, err2)
			}
		})
	}
}

// TestWhatACrashLeavesInABucket is an upload that nobody ends, and parts without a manifest: the next call takes both away.
func TestWhatACrashLeavesInABucket(t *testing.T) {
	c := motoS3(t)
	s, _ := store(t, inBucket(c))
	o := s.place.(*objects)
	half := path.Join(stage.App, stage.Stage, "20200101-000000-000-aaaaaa")
	if _, err := c.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &o.Name, Key: aws.String(o.key(path.Join(half, databaseName)))}); err != nil {
		t.Fatal(err)
	}
	if err := s.write(bounded(t), path.Join(half, volumesDir, "a"+volumeSuffix), []byte("half")); err != nil {
		t.Fatal(err)
	}
	if listed, err := s.List(bounded(t), stage); err != nil || len(listed) != 0 {
		t.Fatalf("%+v %v", listed, err)
	}
	taken := take(t, s, deploy.Data{Volumes: map[string]string{"uploads": t.TempDir()}})
	files, err := o.list(bounded(t), path.Join(stage.App, stage.Stage))
	begun, err2 := o.begun(bounded(t), "")
	if err != nil || err2 != nil || len(foldersIn(files, path.Join(stage.App, stage.Stage))) != 1 || len(begun) != 0 {
		t.Errorf("%v %v %v %v", files, begun, err, err2)
	}
	if err := s.place.remove(bounded(t), path.Join(stage.App, stage.Stage, taken.ID), manifestName); err != nil {
		t.Fatal(err)
	}
}

// TestOneAtATimeInABucket has a lock that is held, one that a dead holder left, and one that is taken away from its holder.
func TestOneAtATimeInABucket(t *testing.T) {
	c, _ := fakeS3(t)
	now := time.Now()
	b := &Bucket{S3: c, Name: "snapshots"}
	o, err := b.open(func() time.Time { return now }, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, unlock, err := o.lock(bounded(t), "a/b", false)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := o.lock(bounded(t), "a/b", false); !errors.Is(err, errLocked) {
		t.Fatal(err)
	}
	unlock()
	_, unlock, err = o.lock(bounded(t), "a/b", false)
	if err != nil {
		t.Fatal("a lock that was given back is not free:", err)
	}
	unlock()
	if _, err := o.put(bounded(t), "a/c/lock.json", []byte(`{"owner":"dead","until":"2020-01-01T00:00:00Z"}`), condition{}); err != nil {
		t.Fatal(err)
	}
	_, unlock, err = o.lock(bounded(t), "a/c", false)
	if err != nil {
		t.Fatal("a dead holder keeps it:", err)
	}
	unlock()
}

// TestRegionsOutsideTheEU are refused before anything is sent.
func TestRegionsOutsideTheEU(t *testing.T) {
	b := &Bucket{S3: client(aws.Config{Region: "us-east-1"}), Name: "snapshots"}
	if _, err := Open(Config{Bucket: b}); !errors.Is(err, deploy.ErrBadInput) || deploy.HintOf(err) == "" {
		t.Fatal(err)
	}
	b.OutsideEU = "a contract asks for it"
	if _, err := Open(Config{Bucket: b}); err != nil {
		t.Fatal(err)
	}
}

// TestABucketSaysWhereItIs so that one of another region in the EU is used there, and one outside is refused, whatever was meant.
func TestABucketSaysWhereItIs(t *testing.T) {
	c := client(mototest.Start(t, region, "where a bucket is was not asked of an S3 that others wrote"))
	for name, at := range map[string]string{"irish": "eu-west-1", "american": "us-west-2"} {
		there := s3.New(c.Options(), func(o *s3.Options) { o.Region = at })
		if _, err := there.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name, CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(at)}}); err != nil {
			t.Fatal(err)
		}
	}
	irish := Bucket{S3: c, Name: "irish"}.Located(bounded(t))
	if _, err := Open(Config{Bucket: irish}); err != nil || irish.S3.Options().Region != "eu-west-1" {
		t.Errorf("a bucket in %s: %v", irish.S3.Options().Region, err)
	}
	if _, err := Open(Config{Bucket: Bucket{S3: c, Name: "american"}.Located(bounded(t))}); !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(err.Error(), "us-west-2, outside the EU") {
		t.Error(err)
	}
}

// TestABucketThatFails leaves nothing half and says what may be missing.
func TestABucketThatFails(t *testing.T) {
	c, w := fakeS3(t)
	s, _ := store(t, inBucket(c))
	w.ForeignBucket("snapshots")
	_, err := s.Take(bounded(t), deploy.SnapshotOrder{Stage: stage, Data: deploy.Data{Volumes: map[string]string{"a": t.TempDir()}}})
	if !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(deploy.HintOf(err), "allow s3:") {
		t.Fatal(err, deploy.HintOf(err))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.List(ctx, stage); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
