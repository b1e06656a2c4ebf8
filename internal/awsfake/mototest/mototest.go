// Package mototest starts moto_server for tests: an emulator of AWS that Lotse's authors did not write, as a second opinion beside
// their own fake. It is a helper of tests. What moto accepts, AWS need not: it checks no policy, no owner of a bucket, and few limits.
package mototest

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// Account is the one that moto plays.
const Account = "123456789012"

// Start runs a moto_server of its own for a test, until that ends, and returns how the SDK reaches it in a region. Where there is
// none, the test is skipped, and says what was not proven.
func Start(t testing.TB, region, proves string) aws.Config {
	t.Helper()
	program, err := exec.LookPath("moto_server")
	if err != nil {
		t.Skipf("NOT RUN: moto_server is not on the PATH (pip install 'moto[server]'): %s", proves)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	server := exec.Command(program, "-H", "127.0.0.1", "-p", port)
	server.Env = append(os.Environ(), "MOTO_ACM_VALIDATION_WAIT=1", "MOTO_IAM_LOAD_MANAGED_POLICIES=true")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = server.Process.Kill(), server.Wait() })
	endpoint := "http://" + address
	await(t, endpoint)
	return aws.Config{Region: region, BaseEndpoint: &endpoint, HTTPClient: awshttp.NewBuildableClient(), Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "example", ""),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = 10 * time.Millisecond })
		}}
}

// await waits until the server answers; Python takes some seconds on a busy machine.
func await(t testing.TB, endpoint string) {
	t.Helper()
	deadline, tick := time.NewTimer(90*time.Second), time.NewTicker(50*time.Millisecond)
	defer deadline.Stop()
	defer tick.Stop()
	for {
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, endpoint+"/moto-api/data.json", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := (&http.Client{Timeout: 10 * time.Second}).Do(q)
		if err == nil && answer.Body.Close() == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal(fmt.Errorf("moto_server does not answer: %w", err))
		}
	}
}
