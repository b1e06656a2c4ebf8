// Package front hides what runs on one instance of a platform that is not ours: Lotse's proxy as the front process, and behind it, on
// loopback, one copy of every service of one release.
//
//	balancer ──TLS──▶ Run ─▶ proxy.Server ─┬─▶ static files of the release
//	                   │                   └─▶ 127.0.0.1:port ─▶ a service, started and started again by process.Run
//	                   └─ control socket ◀── Client: Status, Drain, Task, Samples (as the same user, or as root)
//
// The folder of the release has .lotse/front.json (Spec). Everything else comes from the environment:
//
//	PORT               where it listens, with TLS; 5000 where nothing is said
//	LOTSE_FRONT_HOST   the address to listen on; 0.0.0.0. On a loopback address, whoever connects from this machine is a balancer
//	LOTSE_PRIVATE      the lock of a private stage: proxy.Private as JSON
//	LOTSE_VOLUMES      a folder that has the volumes by name, instead of where the Spec says they are
//	LOTSE_RUN          the folder for sockets, homes of services and the like, instead of one in a folder for such things
//	all others         are given to the services, but those that begin with LOTSE_
//
// What it writes to its output is JSON, one object a line: {at, service, text} is a line of a service, with the values of settings
// masked; {time, site, endpoint, status, …} is a line of the proxy's access log.
//
// What the proxy counts by endpoint is told to a log of the platform (Spec.Samples, Config.Tell), every ten seconds in which there was a
// request. It does not go by the output: what a platform streams of that has something before each line, comes late, and is dropped
// where there is much of it, which is when it is needed.
//
// It needs no root, no cgroups, and to the release's folder it writes links to volumes alone.
package front
