package aws

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	"github.com/aws/aws-sdk-go-v2/service/rds/types"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// untagged is what the value of a tag may not have (RDS API reference, Tag), and what stands for it: its bytes, as =27.
var (
	untagged = regexp.MustCompile(`[^A-Za-z0-9 _.:/+\-@]`)
	standsIn = regexp.MustCompile(`=[0-9A-F]{2}`)
)

// tagValue is a text as a tag takes it. What is too long loses its end.
func tagValue(text string) string {
	var out strings.Builder
	for _, r := range strings.TrimSpace(text) {
		one := untagged.ReplaceAllStringFunc(string(r), func(s string) string {
			var hex strings.Builder
			for _, b := range []byte(s) {
				fmt.Fprintf(&hex, "=%02X", b)
			}
			return hex.String()
		})
		if out.Len()+len(one) > tagMost {
			break
		}
		out.WriteString(one)
	}
	return out.String()
}

// tagText is the inverse of tagValue.
func tagText(value string) string {
	return standsIn.ReplaceAllStringFunc(value, func(s string) string {
		b, _ := strconv.ParseUint(s[1:], 16, 8) // two digits of it
		return string([]byte{byte(b)})
	})
}

// rdsTags are labels as RDS takes them, those without a value left out.
func rdsTags(l labels) (tags []types.Tag) {
	for _, key := range sorted(l) {
		if value := tagValue(l[key]); value != "" {
			tags = append(tags, types.Tag{Key: sdk.String(key), Value: &value})
		}
	}
	return tags
}

func copyLabels(tags []types.Tag) labels {
	l := labels{}
	for _, t := range tags {
		l[sdk.ToString(t.Key)] = tagText(sdk.ToString(t.Value))
	}
	return l
}

func (c copies) tag(ctx context.Context, arn *string, l labels) error {
	_, err := c.e.api.rds.AddTagsToResource(ctx, &rds.AddTagsToResourceInput{ResourceName: arn, Tags: rdsTags(l)})
	return err
}

func (l labels) seconds(key string) time.Duration {
	s, _ := strconv.ParseFloat(l[key], 64)
	return time.Duration(s * float64(time.Second))
}

// nothingWrong stands in the tag of a proof that nothing is wrong with: a tag that an earlier drill has left is written over.
const nothingWrong = "-"

// proofLabels are those of a drill's outcome.
func proofLabels(p deploy.Proof) labels {
	l := labels{tagProven: p.At.UTC().Format(time.RFC3339), tagBack: fmt.Sprintf("%.1f", p.Took.Seconds()), tagWrong: p.Wrong, tagCheck: p.Check, tagCompared: p.Compared}
	for key, value := range l {
		if value == "" {
			l[key] = nothingWrong
		}
	}
	return l
}

// proof is the outcome of the last drill, nil where there was none. One that cannot be read is none: the next drill writes another.
func (l labels) proof() *deploy.Proof {
	at, err := time.Parse(time.RFC3339, l[tagProven])
	if err != nil {
		return nil
	}
	said := func(key string) string { return strings.TrimPrefix(l[key], nothingWrong) }
	return &deploy.Proof{At: at, Took: l.seconds(tagBack), Wrong: said(tagWrong), Check: said(tagCheck), Compared: said(tagCompared)}
}

var hyphens = regexp.MustCompile(`-+`)

// rdsName is a name as RDS takes it: no two hyphens in a row, and none at the end.
func rdsName(name string, most int) string {
	return strings.TrimRight(short(hyphens.ReplaceAllString(name, "-"), most), "-")
}
