package awsfake

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// embeddedMetrics are what CloudWatch takes out of a log line in its embedded metric format: of one that is a JSON object with nothing
// before or after it, with members as the format has them; of any other line nothing, without a word (docs.aws.amazon.com/AmazonCloudWatch,
// "Specification: Embedded metric format"). Figures in lists are not done here.
func embeddedMetrics(line string) (all []metric) {
	var head struct {
		AWS struct {
			Timestamp         int64
			CloudWatchMetrics []struct {
				Namespace  string
				Dimensions [][]string
				Metrics    []struct{ Name, Unit string }
			}
		} `json:"_aws"`
	}
	members := map[string]any{}
	if json.Unmarshal([]byte(line), &head) != nil || json.Unmarshal([]byte(line), &members) != nil || head.AWS.Timestamp == 0 {
		return nil
	}
	for _, d := range head.AWS.CloudWatchMetrics {
		for _, names := range d.Dimensions {
			dimensions, whole := dimensionsIn(members, names)
			for _, m := range d.Metrics {
				if value, is := members[m.Name].(float64); is && whole && d.Namespace != "" {
					all = append(all, metric{namespace: d.Namespace, name: m.Name, dimensions: dimensions, at: time.UnixMilli(head.AWS.Timestamp), values: []float64{value}})
				}
			}
		}
	}
	return all
}

// dimensionsIn is a set of dimensions with the values that the line has for them, false where one is missing.
func dimensionsIn(members map[string]any, names []string) (string, bool) {
	var set []string
	for _, name := range names {
		value, is := members[name].(string)
		if !is {
			return "", false
		}
		set = append(set, name+"="+value)
	}
	slices.Sort(set)
	return strings.Join(set, ","), true
}
