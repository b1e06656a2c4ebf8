package awsfake

import (
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"
)

func addHealth(s *service) {
	add(s, "DescribeEnvironmentHealth", describeHealth)
	add(s, "DescribeInstancesHealth", describeInstances)
	add(s, "DescribeEnvironmentManagedActions", managedActions)
	add(s, "DescribeEnvironmentManagedActionHistory", managedActionHistory)
	add(s, "ApplyEnvironmentManagedAction", applyManagedAction, "ActionId")
}

// enhanced refuses where an environment has basic health reporting, as AWS does.
func (b *beanstalk) enhanced(id, name *string) (*environment, error) {
	e, err := b.live(id, name)
	if err == nil && e.options.get("aws:elasticbeanstalk:healthreporting:system", "SystemType") == "basic" {
		return nil, refuse("InvalidRequestException", "The environment %s does not use enhanced health reporting.", e.name) // words ours
	}
	return e, err
}

func describeHealth(c *request, in *eb.DescribeEnvironmentHealthInput) (*eb.DescribeEnvironmentHealthOutput, error) {
	e, err := c.region.beanstalk.enhanced(in.EnvironmentId, in.EnvironmentName)
	if err != nil {
		return nil, err
	}
	e.refresh()
	out := &eb.DescribeEnvironmentHealthOutput{EnvironmentName: &e.name}
	asked := func(name types.EnvironmentHealthAttribute) bool {
		return slices.Contains(in.AttributeNames, name) || slices.Contains(in.AttributeNames, types.EnvironmentHealthAttributeAll)
	}
	if asked(types.EnvironmentHealthAttributeStatus) {
		out.Status = types.EnvironmentHealth(e.status)
	}
	if asked(types.EnvironmentHealthAttributeColor) {
		out.Color = aws.String(string(e.color))
	}
	if asked(types.EnvironmentHealthAttributeHealthStatus) {
		out.HealthStatus = aws.String(string(e.health))
	}
	if asked(types.EnvironmentHealthAttributeCauses) {
		out.Causes = append([]string{}, e.causes...)
	}
	if asked(types.EnvironmentHealthAttributeApplicationMetrics) {
		out.ApplicationMetrics = noRequests()
	}
	if asked(types.EnvironmentHealthAttributeInstancesHealth) {
		out.InstancesHealth = e.summary()
	}
	if asked(types.EnvironmentHealthAttributeRefreshedAt) {
		out.RefreshedAt = now()
	}
	return out, nil
}

// noRequests is what an environment without traffic tells. Requests are not counted by the fake.
func noRequests() *types.ApplicationMetrics {
	return &types.ApplicationMetrics{
		Duration: aws.Int32(10), RequestCount: 0, Latency: &types.Latency{},
		StatusCodes: &types.StatusCodes{Status2xx: aws.Int32(0), Status3xx: aws.Int32(0), Status4xx: aws.Int32(0), Status5xx: aws.Int32(0)},
	}
}

func (e *environment) summary() *types.InstanceHealthSummary {
	var well, severe int32
	for _, i := range e.instances {
		if i.healthy() {
			well++
		} else {
			severe++
		}
	}
	zero := aws.Int32(0)
	return &types.InstanceHealthSummary{Ok: &well, Severe: &severe, NoData: zero, Unknown: zero, Pending: zero, Info: zero, Warning: zero, Degraded: zero}
}

func describeInstances(c *request, in *eb.DescribeInstancesHealthInput) (*eb.DescribeInstancesHealthOutput, error) {
	e, err := c.region.beanstalk.enhanced(in.EnvironmentId, in.EnvironmentName)
	if err != nil {
		return nil, err
	}
	out := &eb.DescribeInstancesHealthOutput{RefreshedAt: now(), InstanceHealthList: []types.SingleInstanceHealth{}}
	for _, i := range e.instances {
		one := types.SingleInstanceHealth{
			InstanceId: aws.String(i.id()), HealthStatus: aws.String("Ok"), Color: aws.String("Green"), Causes: []string{}, LaunchedAt: aws.Time(e.deployedAt),
			AvailabilityZone: aws.String(c.region.name + "a"), InstanceType: aws.String(instanceType(e)), ApplicationMetrics: noRequests(),
			Deployment: &types.Deployment{VersionLabel: text(e.version), DeploymentId: &e.deployments, Status: aws.String("Deployed"), DeploymentTime: aws.Time(e.deployedAt)},
			System:     &types.SystemStatus{LoadAverage: []float64{0, 0}, CPUUtilization: &types.CPUUtilization{User: aws.Float64(1), Idle: aws.Float64(99)}},
		}
		if !i.healthy() {
			one.HealthStatus, one.Color, one.Causes = aws.String("Severe"), aws.String("Red"), []string{"Process default has been unhealthy for 1 minute."}
		}
		out.InstanceHealthList = append(out.InstanceHealthList, one)
	}
	return out, nil
}

func instanceType(e *environment) string {
	if set := e.options.get("aws:autoscaling:launchconfiguration", "InstanceType"); set != "" {
		return set
	}
	return "t3.micro"
}

// Managed actions never come up in the fake: the lists are empty and none can be applied.

func managedActions(c *request, in *eb.DescribeEnvironmentManagedActionsInput) (*eb.DescribeEnvironmentManagedActionsOutput, error) {
	_, err := c.region.beanstalk.live(in.EnvironmentId, in.EnvironmentName)
	return &eb.DescribeEnvironmentManagedActionsOutput{ManagedActions: []types.ManagedAction{}}, err
}

func managedActionHistory(c *request, in *eb.DescribeEnvironmentManagedActionHistoryInput) (*eb.DescribeEnvironmentManagedActionHistoryOutput, error) {
	_, err := c.region.beanstalk.live(in.EnvironmentId, in.EnvironmentName)
	return &eb.DescribeEnvironmentManagedActionHistoryOutput{ManagedActionHistoryItems: []types.ManagedActionHistoryItem{}}, err
}

func applyManagedAction(c *request, in *eb.ApplyEnvironmentManagedActionInput) (*eb.ApplyEnvironmentManagedActionOutput, error) {
	if _, err := c.region.beanstalk.live(in.EnvironmentId, in.EnvironmentName); err != nil {
		return nil, err
	}
	return nil, refuse("ManagedActionInvalidStateException", "There is no managed action '%s'.", *in.ActionId) // words ours
}

// info is what an instance has told on request.
type info struct {
	environment string
	kind        types.EnvironmentInfoType
	at          time.Time
	instance    string
	url         string
}

func addInfo(s *service) {
	add(s, "RequestEnvironmentInfo", requestInfo, "InfoType")
	add(s, "RetrieveEnvironmentInfo", retrieveInfo, "InfoType")
}

// requestInfo takes down the last lines of every instance and keeps them in Beanstalk's bucket.
func requestInfo(c *request, in *eb.RequestEnvironmentInfoInput) (*eb.RequestEnvironmentInfoOutput, error) {
	e, err := c.region.beanstalk.live(in.EnvironmentId, in.EnvironmentName)
	if err != nil {
		return nil, err
	}
	bucket := "elasticbeanstalk-" + c.region.name + "-" + c.w.options.Account
	c.w.storage(bucket)
	for _, i := range e.instances {
		key := "resources/environments/logs/" + string(in.InfoType) + "/" + e.id + "/" + i.id() + "/" + newID(8) + ".txt"
		c.w.objects.put(bucket, key, i.tail())
		c.region.beanstalk.infos = append(c.region.beanstalk.infos, info{e.id, in.InfoType, *now(), i.id(), c.w.server.URL + "/" + bucket + "/" + key + "?X-Amz-Credential=AKIDFAKE/20260101/" + c.region.name + "/s3/aws4_request"})
	}
	c.w.tell(c.region, e, "", "requestEnvironmentInfo is starting.")
	return &eb.RequestEnvironmentInfoOutput{}, nil
}

func retrieveInfo(c *request, in *eb.RetrieveEnvironmentInfoInput) (*eb.RetrieveEnvironmentInfoOutput, error) {
	e, err := c.region.beanstalk.live(in.EnvironmentId, in.EnvironmentName)
	if err != nil {
		return nil, err
	}
	out := &eb.RetrieveEnvironmentInfoOutput{EnvironmentInfo: []types.EnvironmentInfoDescription{}}
	for _, i := range c.region.beanstalk.infos {
		if i.environment == e.id && i.kind == in.InfoType {
			out.EnvironmentInfo = append(out.EnvironmentInfo, types.EnvironmentInfoDescription{
				Ec2InstanceId: aws.String(i.instance), InfoType: i.kind, Message: aws.String(i.url), SampleTimestamp: aws.Time(i.at),
			})
		}
	}
	return out, nil
}
