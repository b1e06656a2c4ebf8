package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"time"

	"github.com/lotse-eu/lotse/internal/proxy"
)

// host is what every proxy of the bench answers for (RFC 6761 §6.5: never anybody's).
const host = "bench.example"

// subject is one of those that are measured side by side.
type subject struct {
	name    string
	static  bool   // it serves files
	missing string // why it was NOT RUN
	process *process
	address string
}

// stand is what all subjects share.
type stand struct {
	dir      string // temporary
	plan     childPlan
	pem      string // certificate and key in one file
	roots    *x509.CertPool
	upstream *process
	subjects []*subject
}

const staticSize = 20 << 10

// setUp starts the upstream and every subject that is installed. What it returns is to be torn down also after an error.
func setUp(ctx context.Context) (*stand, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	s := &stand{dir: dir, pem: filepath.Join(dir, "all.pem")}
	in := func(name string) string { return filepath.Join(dir, name) }
	s.plan = childPlan{Certificate: in("cert.pem"), Key: in("key.pem"), Folder: in("www"), State: in("state"), Control: in("sock"), AccessLog: in("lotse.log")}
	if err := errors.Join(s.writeCertificate(), s.writeFiles()); err != nil {
		return s, err
	}
	if s.upstream, s.plan.Upstream, err = startSelf("upstream", s.plan); err != nil {
		return s, err
	}
	for _, begin := range []func(context.Context, *stand) (*subject, error){startLotse, startNginx, startHAProxy, startBare} {
		subject, err := begin(ctx, s)
		if err != nil {
			return s, err
		}
		s.subjects = append(s.subjects, subject)
	}
	return s, nil
}

func (s *stand) tearDown() error {
	var failed error
	for _, subject := range s.subjects {
		if subject.process != nil {
			failed = errors.Join(failed, subject.process.stop())
		}
	}
	if s.upstream != nil {
		failed = errors.Join(failed, s.upstream.stop())
	}
	return errors.Join(failed, os.RemoveAll(s.dir))
}

// writeCertificate makes one self-signed certificate for all.
func (s *stand) writeCertificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	s.roots = x509.NewCertPool()
	s.roots.AppendCertsFromPEM(certPEM)
	return errors.Join(os.WriteFile(s.plan.Certificate, certPEM, 0o600), os.WriteFile(s.plan.Key, keyPEM, 0o600),
		os.WriteFile(s.pem, append(certPEM, keyPEM...), 0o600))
}

// writeFiles makes the static file, which does not compress, and Lotse's index of it.
func (s *stand) writeFiles() error {
	content := make([]byte, staticSize)
	rand.Read(content) // never fails
	// Lotse's paths are not stripped, so the file lies under the prefix.
	for _, dir := range []string{s.plan.Folder, filepath.Join(s.dir, "site", "static")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "app.js"), content, 0o644); err != nil {
			return err
		}
	}
	index, err := proxy.BuildIndex(os.DirFS(filepath.Join(s.dir, "site")), nil)
	if err != nil {
		return err
	}
	text, err := json.Marshal(index)
	return errors.Join(err, os.WriteFile(filepath.Join(s.dir, "index.json"), text, 0o644))
}

func startLotse(ctx context.Context, s *stand) (*subject, error) {
	p, address, err := startSelf("lotse", s.plan)
	if err != nil {
		return nil, err
	}
	lotse := &subject{name: "lotse", static: true, process: p, address: address}
	if err := p.answers(ctx, address); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	if err := s.putSite(ctx); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return lotse, nil
}

func (s *stand) putSite(ctx context.Context) error {
	client := proxy.NewClient(s.plan.Control)
	if err := until(ctx, func() error { return client.Ping(ctx) }); err != nil {
		return err
	}
	return client.Put(ctx, proxy.Site{Key: "bench/one", Fence: 1, Hosts: []string{host}, Releases: []proxy.Release{{
		ID: "r1", Label: "bench", Share: 100, Routes: []proxy.Route{
			{Prefix: "/", Service: "api", Targets: []string{s.plan.Upstream}},
			{Prefix: "/static", Service: "web", Static: &proxy.Static{Root: filepath.Join(s.dir, "site"), Index: filepath.Join(s.dir, "index.json")}},
		},
	}}})
}

func startBare(ctx context.Context, s *stand) (*subject, error) {
	p, address, err := startSelf("bare", s.plan)
	if err != nil {
		return nil, err
	}
	return &subject{name: "bare Go", static: true, process: p, address: address}, p.answers(ctx, address)
}

// startPeer runs a program of a Debian package with a configuration of ours, in the foreground, on a port of its own.
func startPeer(ctx context.Context, s *stand, peer *subject, program, config string, argv func(path, file string) []string) (*subject, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		peer.missing = "not installed: apt-get install -y " + peer.name
		return peer, nil //nolint:nilerr // what is not installed is NOT RUN, not an error
	}
	file := filepath.Join(s.dir, program+".conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	if peer.process, err = start(argv(path, file)...); err != nil {
		return nil, err
	}
	if err := peer.process.answers(ctx, peer.address); err != nil {
		return nil, errors.Join(err, peer.process.stop())
	}
	return peer, nil
}

// startNginx: as Debian sets it up (one worker for each core), with kept connections upstream and an access log in batches.
func startNginx(ctx context.Context, s *stand) (*subject, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	me, err := user.Current()
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf(nginxConfig, s.dir, s.plan.Upstream, address, s.plan.Certificate, s.plan.Key, s.plan.Folder, host)
	if os.Geteuid() == 0 { // or its workers could not read the folder
		config = "user " + me.Username + ";\n" + config
	}
	return startPeer(ctx, s, &subject{name: "nginx", static: true, address: address}, "nginx", config, func(path, file string) []string {
		return []string{path, "-p", s.dir, "-c", file, "-e", "stderr"}
	})
}

const nginxConfig = `daemon off;
worker_processes auto;
pid %[1]s/nginx.pid;
error_log stderr warn;
events { worker_connections 1024; }
http {
  access_log %[1]s/nginx.log combined buffer=64k flush=1s;
  client_body_temp_path %[1]s/nginx-body; proxy_temp_path %[1]s/nginx-proxy; fastcgi_temp_path %[1]s/nginx-f;
  uwsgi_temp_path %[1]s/nginx-u; scgi_temp_path %[1]s/nginx-s;
  sendfile on; tcp_nopush on; keepalive_requests 100000000; open_file_cache max=100;
  types { text/javascript js; }
  upstream app { server %[2]s; keepalive 64; keepalive_requests 100000000; }
  server {
    listen %[3]s ssl http2;
    server_name %[7]s;
    ssl_certificate %[4]s; ssl_certificate_key %[5]s; ssl_protocols TLSv1.2 TLSv1.3;
    location / {
      proxy_pass http://app; proxy_http_version 1.1; proxy_buffers 16 8k;
      proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto https;
    }
    location /static/ { alias %[6]s/; }
  }
}
`

// startHAProxy: one thread for each core, as it is by default, and no log, since it writes none without a syslog.
func startHAProxy(ctx context.Context, s *stand) (*subject, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf(haproxyConfig, address, s.pem, s.plan.Upstream)
	return startPeer(ctx, s, &subject{name: "haproxy", address: address}, "haproxy", config, func(path, file string) []string {
		return []string{path, "-db", "-q", "-f", file}
	})
}

const haproxyConfig = `global
  maxconn 1024
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  timeout http-keep-alive 30s
frontend web
  bind %[1]s ssl crt %[2]s alpn h2,http/1.1
  option forwardfor
  http-request set-header X-Forwarded-Proto https
  default_backend app
backend app
  http-reuse always
  server one %[3]s
`
