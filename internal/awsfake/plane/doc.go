// Package plane is what stands behind the fake of AWS in tests: instances that really run a bundle's Procfile, load balancers
// that really terminate TLS and route by rules, and a resolver whose answers live for their TTL. It is a FAKE of Elastic
// Beanstalk's instances, Elastic Load Balancing (application) and Route 53, written from their documentation; nothing that
// passes here is thereby tested on AWS. The control plane, which speaks the API's protocols and knows ARNs, is the caller.
//
//	p, err := plane.Open(plane.Options{Folder: t.TempDir()})   // Close stops everything
//	g := p.NewGroup(plane.GroupOptions{Name: "tg", Health: plane.HealthCheck{Path: "/.lotse/health"}})
//	b, err := p.NewBalancer(plane.BalancerOptions{Name: "alb-1.eu-central-1.elb.amazonaws.com"})
//	l, err := b.Listen(plane.ListenerOptions{Port: 443, Certificates: []plane.Certificate{{"*.example.com"}}, Default: plane.Fixed(404, "")})
//	err = l.SetRules([]plane.Rule{{Priority: 10, Conditions: …, Action: plane.Forward(plane.Weighted{Group: g, Weight: 1})}})
//	i, err := p.Launch(ctx, plane.InstanceOptions{ID: "i-1", Bundle: "app.zip", Environment: …})
//	err = g.Register(i); g.Health(); g.Deregister(i.ID()); <-g.Released(i.ID())
//	i.Exec(ctx, "/var/app/current/.lotse/bin/lotse front status")  // SSM Run Command
//	i.Health(); i.Lines(); i.Asked(); i.Freeze(); i.Thaw(); i.Break(); i.Mend(); i.Kill(); i.Stop(ctx)
//	p.Names().Set(plane.Record{Name: "app.example.com", Type: "CNAME", Values: []string{b.Name()}, TTL: time.Second})
//	dial := p.Dialer(); config := p.TLS()                          // a client of the internet, with a DNS cache of its own
//	e, err := p.LaunchEnvironment(ctx, plane.EnvironmentOptions{…}); p.SwapCNAMEs(e1, e2); e.Health(); e.Terminate(ctx)
//
// # What is otherwise than on AWS
//
//   - Port 5000: each instance gets a free loopback port in PORT, and HOST and LOTSE_FRONT_HOST say 127.0.0.1. Whoever listens on
//     a fixed port is not reached.
//   - Paths: an instance's /var/app, /var/log, /var/lib/lotse, /opt/elasticbeanstalk and /etc/pki lie below its folder. Where
//     such a path stands in the Procfile, in a hook that is a script, in .lotse/*.json, in a property or in a command of
//     Exec, its prefix is rewritten. A path that a program has built in is not; TMPDIR lies below the folder too.
//   - Users: everything runs as the caller (InstanceOptions.UID for the Procfile's processes where the caller is root); on the
//     platform hooks run as root and processes as webapp.
//   - The machine's programs (node, sh) stand for the platform's. There is no nginx (ProxyServer none), no .ebextensions, no
//     Buildfile, no confighooks, no worker tier.
//   - Hooks find stand-ins of mount, dnf, curl and such first in PATH, which only note what they were asked. curl and wget
//     write what InstanceOptions.Downloads has for the URL, the Plane's authority for RDS's certificates, and fail for every other.
//   - A balancer is one process on one address: no zones, no scaling, no access logs, no target stickiness (AWSALB), no
//     AWSALBTGCORS, no slow start. It changes its rules at one instant, Options.Propagation after it was told.
//   - Names: only A, CNAME and aliases; no wildcard records, no negative caching, and outside names do not exist.
//
// # What is stricter
//
//   - A hook without its executable bit fails the launch; platforms since 2022-04-29 set the bit themselves.
//   - A target that has not passed its first check gets no request, also when there is no other (503).
//   - AWSALBTG holds a client at a target group for as long as the group stands in the rule, also at weight 0 and also when
//     nothing in it is healthy, and is renewed with each answer.
//   - Clients' connections are kept for an hour (client_keep_alive.seconds), so that after a swap of CNAMEs somebody may come
//     to the old environment long after the TTL is over; so may they on AWS, and a test sees it at once.
//   - Instances end as systemd ends a unit: SIGTERM goes to every process of it at once, not to the first alone.
//
// Everything in the package is safe for concurrent use. It runs on Linux only.
package plane
