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
//   - CloudFront: CreateInvalidation, GetInvalidation, GetDistribution; with Options.Plane, distributions of Lotse's templates
//     serve their bucket, and keep every answer until an invalidation is complete.
//   - RDS: DescribeDBInstances of one database of a stack or of a snapshot, snapshots by hand with their tags, instances made of them
//     and deleted. All of it is names and states: no byte of any database is copied, lists have one page, filters are not looked at.
//   - S3 (gofakes3, with conditional PUT made atomic, expected owners, Cache-Control), STS GetCallerIdentity, Secrets Manager with versions and stages,
//     SSM Run Command, CloudWatch Logs with metrics in the embedded format, CloudWatch GetMetricData/PutMetricData, Service Quotas.
//   - CloudFormation: change sets, stacks with their states, events and ways back, templates in JSON and YAML with their
//     functions, what replaces a resource (from the resource schemas), policies of stacks and of resources, drift. Some
//     resources are then there in the services above too (cloudformation_real.go); the others are names. Of Route 53 there
//     is ListHostedZonesByName. What stands behind the name of a
//     database is up to the test (World.Elsewhere). A file system that instances mount is one folder.
//
// Requests and answers of all but S3 and CloudFront go through codecs by reflection over the SDK's own types, which AWS generates from its
// models: a member that the model does not know is refused, and no answer can hold one. What an operation's model calls
// required is refused where it is missing.
//
// # What it does not do
//
//   - Signatures are not checked and IAM is not evaluated: a missing permission is injected (World.Deny).
//   - Nothing bills, and nothing takes as long as on AWS: durations are Options. Health checks run every Options.Checks,
//     whatever interval was asked for.
//   - Of Elastic Beanstalk's 47 operations ComposeEnvironments, CreatePlatformVersion and DeletePlatformVersion are missing.
//     Managed actions never come up. Worker tiers, queues and configuration drafts have no life behind them.
//   - An update puts the version on fresh instances, all at once, whatever the deployment policy; RestartAppServer does too.
//   - Instances join their target group once their programs run, on AWS before. Network and classic balancers are names only.
//   - A CNAME swap leaves the host-header rules of shared balancers as they were; what AWS does there is not documented. The
//     priority that Beanstalk gives its rules is not either: here it is the next free one.
//   - Of the option namespaces only those in options.go are known, with defaults that clients are seen to need. Limits and
//     resource names of options are not modelled. Application versions are not looked into, .ebextensions are not read.
//   - Requests are not counted: the application metrics of environments and instances are zero.
//   - Messages of errors and events are AWS's as documented or seen; where no source was at hand they are marked "ours" in
//     the code. Nobody should match on those. Codes of quotas that were not checked are marked in quotas.go.
//   - The status of an application version is spelled as the model has it (Processed); AWS is said to answer in capitals.
//   - Load balancing: network and gateway balancers, authentication actions, transforms, query-string and source-ip
//     conditions, and the contents of certificates (World.Certificate says for which hosts one is).
//   - S3: what gofakes3 lacks (policies, encryption, lifecycle, checksums in trailers). No bucket has a region.
//   - CloudFront: functions but the one of Lotse's templates, which is read and not run; edges that differ from each other; TTLs;
//     compression; changes of a distribution that a stack has made. Of bucket policies it knows what is denied to CloudFront.
//   - Logs: metric filters, Insights, subscriptions; filter patterns are plain terms and quoted phrases.
//   - Secrets Manager: rotation, replication, resource policies. SSM: other documents than AWS-RunShellScript, parameters.
//   - CloudWatch: expressions, alarms, statistic sets, extended statistics but percentiles; lists of figures in embedded metrics.
//   - What instances call with their own rights (World.CallsOfInstances) is taken whatever their role says; how long it takes until a line
//     of a log can be found is nothing here.
//   - Pages are cut where a request gives a limit; AWS's own upper bounds of pages are not copied.
package awsfake
