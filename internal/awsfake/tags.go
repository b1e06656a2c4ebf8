package awsfake

import (
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"
)

func addTags(s *service) {
	add(s, "ListTagsForResource", listTags, "ResourceArn")
	add(s, "UpdateTagsForResource", updateTags, "ResourceArn")
}

// mostTags is AWS's limit of tags on one resource.
const mostTags = 50

func (c *request) tag(arn string, tags []types.Tag) {
	kept := map[string]string{}
	for _, tag := range tags {
		kept[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	c.region.beanstalk.tags[arn] = kept
}

func (c *request) tagsOf(arn *string) (map[string]string, error) {
	if !strings.HasPrefix(*arn, "arn:aws:elasticbeanstalk:") {
		return nil, invalid("The ARN '%s' is not valid.", *arn) // ours
	}
	tags, there := c.region.beanstalk.tags[*arn]
	if !there {
		return nil, refuse("ResourceNotFoundException", "Resource not found for ARN '%s'.", *arn)
	}
	return tags, nil
}

func listTags(c *request, in *eb.ListTagsForResourceInput) (*eb.ListTagsForResourceOutput, error) {
	tags, err := c.tagsOf(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	out := &eb.ListTagsForResourceOutput{ResourceArn: in.ResourceArn, ResourceTags: []types.Tag{}}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		out.ResourceTags = append(out.ResourceTags, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return out, nil
}

// updateTags changes the tags of an environment in an operation of its own, as AWS does: it must be Ready.
func updateTags(c *request, in *eb.UpdateTagsForResourceInput) (*eb.UpdateTagsForResourceOutput, error) {
	tags, err := c.tagsOf(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	for _, env := range c.region.beanstalk.environments {
		if env.arn == *in.ResourceArn && env.status != types.EnvironmentStatusReady {
			return nil, refuse("OperationInProgressException", "The environment %s is not Ready.", env.name) // words ours
		}
	}
	changed := maps.Clone(tags)
	for _, tag := range in.TagsToAdd {
		changed[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	for _, key := range in.TagsToRemove {
		delete(changed, key)
	}
	if len(changed) > mostTags {
		return nil, refuse("TooManyTagsException", "You can't have more than %d tags on a resource.", mostTags) // words ours
	}
	c.region.beanstalk.tags[*in.ResourceArn] = changed
	return &eb.UpdateTagsForResourceOutput{}, nil
}
