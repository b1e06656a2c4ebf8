// Package aws runs one stage of one app on Amazon Web Services: every rollout is an environment of Elastic Beanstalk with a bundle of its
// own, in which Lotse's front answers on every instance and starts the services behind it on loopback.
//
// What lasts is made by `lotse infra apply` as one CloudFormation stack per app and region; the engine reads its outputs and drives the
// environments by the API. What it knows stands on the platform and nowhere else, so that any process may go on where another was killed:
//
//	environment <app>-<stage>-<10>   one rollout; its tags say app, stage, release, rollout and services
//	application version              the bundle of a rollout, in the bucket of releases under the digest of its bytes
//	rules of the listener            who has traffic (weights), and how a rollout is reached before it has any (shared balancer)
//	names of environments            who has traffic, where each environment has a balancer of its own
//	stages/<stage>/fence.json        greatest fence and who had traffic before; only ever replaced by a conditional write
//	secrets <app>/<stage>/engine/…   the lock of a private stage, the address of its database
//
// A rollout is there from CreateEnvironment on. Before that, only a bundle and a version can be left, which the next start prunes.
package aws
