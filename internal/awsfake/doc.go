// Package awsfake is a fake of AWS's control plane for tests: one HTTP server on loopback that speaks the wire protocols
// of the services that Lotse calls, with their asynchronous lives, their refusals and, on demand, their failures. Nothing
// that was tested against it is thereby tested on AWS.
//
// # What it does
//
// The service is read from the credential scope of a request's signature, so one address serves the SDK (World.Config),
// aws-cli (--endpoint-url) and Terraform (endpoints). State is kept per region, S3 and IAM identities for all regions.
//
//   - Elastic Beanstalk: applications, versions, templates, environments and all that a client sees of their lives
//     (status, colour, health, events, tags, options, CNAMEs and their swap). With Options.Plane, programs of the bundle
//     really run and are reached; without, an environment is only state.
//   - Elastic Load Balancing v2: balancers, listeners, rules with weights, target groups and the health of targets.
//   - S3 (gofakes3, with conditional PUT made atomic), STS GetCallerIdentity, Secrets Manager with versions and stages,
//     SSM Run Command, CloudWatch Logs, CloudWatch GetMetricData/PutMetricData, Service Quotas, CloudFormation.
//
// Requests and answers of all but S3 go through codecs by reflection over the SDK's own types, which AWS generates from its
// models: a member that the model does not know is refused, and no answer can hold one. What an operation's model calls
// required is refused where it is missing.
//
// # What it does not do
//
//   - Signatures are not checked and IAM is not evaluated: a missing permission is injected (Deny).
//   - Nothing bills, nothing takes as long as on AWS: durations are Options.
//   - Beanstalk: custom platforms, managed updates, compose groups, worker tiers with queues, saved log bundles, and real
//     deployment policies (an update changes all instances at once). Of the option namespaces only those in options.go
//     are known, with the defaults that clients are seen to need. An application version is not looked into by
//     Beanstalk itself (Process answers PROCESSED); .ebextensions are not interpreted.
//   - Messages of errors and events are AWS's as documented or seen; where no source was at hand they are ours
//     and marked "ours" in the code. Nobody should match on those.
//   - Load balancing: network and gateway balancers, authentication actions, rule transforms, certificates' contents.
//   - Logs: metric filters, Insights queries, subscriptions. Filter patterns: plain terms and quoted phrases only.
//   - Secrets Manager: rotation, replication, resource policies. SSM: documents other than AWS-RunShellScript.
//   - CloudWatch: expressions, alarms, anomaly bands; statistics are worked out over what was put.
//   - Pagination is real where MaxRecords, MaxResults, Limit or PageSize is given; service-side page caps are not copied.
package awsfake
