package main

// The units. Each line says why it is there; docs/install.md tells the same at length. What a run needs of them was found out by
// running deploys without: e2e/sandbox_test.go.

const commonUnit = `# It goes on after every end, also a clean one. ` + "`systemctl stop`" + ` ends the controller alone: keepers, the proxy and the
# instances belong to the stages and live on, and the next controller adopts them. ` + "`lotse down`" + ` ends everything.
Restart=always
RestartSec=1
KillMode=process

# Instances have cgroups of their own below this unit's, with their limits. A cgroup that has others below it with limits may hold no
# process itself, so that the controller and what it starts stand in one beside them (systemd 254 and later; before that it warns,
# and they are made at the top of the hierarchy).
Delegate=cpu memory pids
DelegateSubgroup=lotse-controller
# An instance that reaches its memory limit is its keeper's affair, not the end of the controller.
OOMPolicy=continue
# Builds and instances count too; each instance can have a limit of its own in lotse.yaml.
TasksMax=infinity
`

const callsUnit = `# No program gets more rights than who starts it.
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
# Requests and databases (INET), Lotse's own sockets (UNIX), and the list of network interfaces that Node and libc ask for (NETLINK).
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
# What a service needs. Anything else does not kill who tried, and looks as if the kernel were too old for it: programs then take the
# older way. With EPERM they give up, also at calls that are harmless and that this systemd has not heard of yet (fchmodat2).
SystemCallFilter=@system-service
SystemCallErrorNumber=ENOSYS
# No user namespaces: they open much of the kernel to a program without rights. Browsers in a pipeline need --no-sandbox.
RestrictNamespaces=yes
# Not set, for they would break what is run: MemoryDenyWriteExecute (the compilers in Node, Java and .NET write code and execute it).
`

const machineUnit = `[Unit]
Description=Lotse, the controller
Documentation=https://github.com/lotse-eu/lotse
After=network.target
# It never gives up: a controller that cannot start now may in a minute.
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={binary} serve --state {state}
# Gives git and ssh their HOME.
User=root
# Where git, node and whatever a pipeline runs are found.
Environment=PATH={path}
{common}
# Everything is read-only but the state folder and the folders for temporary files. Repositories in home folders can be read.
ProtectSystem=strict
ProtectHome=read-only
{folder}
ReadWritePaths=/tmp /var/tmp
# PrivateTmp is not set: instances outlive the unit, and a new controller would see another /tmp than they do.
PrivateMounts=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
# ProtectControlGroups is not set: limits are written there.
# Instances see their own processes and no others.
ProtectProc=invisible

# CHOWN, FOWNER, DAC_OVERRIDE: the files of instances belong to users of their own. SETUID, SETGID: to become those users.
# KILL: to end them. NET_BIND_SERVICE: ports 443 and 80. SYS_PTRACE: whose a process is and where it listens, read in /proc; debugging
# itself is not among the system calls below. Who becomes another user keeps none of them.
CapabilityBoundingSet=CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE CAP_SETUID CAP_SETGID CAP_KILL CAP_NET_BIND_SERVICE CAP_SYS_PTRACE
{calls}
[Install]
WantedBy=multi-user.target
`

const userUnit = `[Unit]
Description=Lotse, the controller
Documentation=https://github.com/lotse-eu/lotse
StartLimitIntervalSec=0

[Service]
Type=exec
# Ports below 1024 are not for users.
ExecStart={binary} serve --state {state} --https 8443 --http 8080
# Where git, node and whatever a pipeline runs are found.
Environment=PATH={path}
{common}
# What keeps a user from the machine's files, and from other users, does so here. What follows needs no rights.
{calls}
[Install]
WantedBy=default.target
`
