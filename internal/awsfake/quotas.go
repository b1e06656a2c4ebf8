package awsfake

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas/types"
)

func quotasService() *service {
	s := newService("servicequotas", "", upperCamel)
	add(s, "ListServiceQuotas", listQuotas, "ServiceCode")
	add(s, "GetServiceQuota", getQuota, "ServiceCode", "QuotaCode")
	return s
}

// quotaTable is what the fake knows. The names of Elastic Beanstalk's and Elastic Load Balancing's quotas are AWS's, with
// their default values; the codes marked so were not checked against an account.
var quotaTable = []struct {
	service, code, name, option string
	usual                       int
}{
	{"elasticbeanstalk", "L-1CEABD17", "Applications", "Applications", applicationQuota},            // code not checked
	{"elasticbeanstalk", "L-D64F1F14", "Application Versions", "ApplicationVersions", versionQuota}, // code not checked
	{"elasticbeanstalk", "L-8EFC1C51", "Environments", "Environments", environmentQuota},            // code not checked
	{"elasticloadbalancing", "L-53DA6B97", "Application Load Balancers per Region", "Balancers", 50},
	{"elasticloadbalancing", "L-B22855CB", "Target Groups per Region", "TargetGroups", 3000},
	{"elasticloadbalancing", "L-F0B9D5F9", "Rules per Application Load Balancer", "Rules", ruleQuota}, // code not checked
	{"ec2", "L-1216C47A", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", "VCPUs", 32},
}

func (w *World) quotasOf(service string) []types.ServiceQuota {
	found := []types.ServiceQuota{}
	for _, q := range quotaTable {
		if q.service == service {
			found = append(found, types.ServiceQuota{
				ServiceCode: aws.String(q.service), QuotaCode: aws.String(q.code), QuotaName: aws.String(q.name),
				Value: aws.Float64(float64(w.quota(q.option, q.usual))), Adjustable: true, Unit: aws.String("None"),
			})
		}
	}
	return found
}

func listQuotas(c *request, in *servicequotas.ListServiceQuotasInput) (*servicequotas.ListServiceQuotasOutput, error) {
	page, next, err := paged(c.w.quotasOf(*in.ServiceCode), in.MaxResults, in.NextToken)
	return &servicequotas.ListServiceQuotasOutput{Quotas: page, NextToken: next}, err
}

func getQuota(c *request, in *servicequotas.GetServiceQuotaInput) (*servicequotas.GetServiceQuotaOutput, error) {
	for _, q := range c.w.quotasOf(*in.ServiceCode) {
		if *q.QuotaCode == *in.QuotaCode {
			return &servicequotas.GetServiceQuotaOutput{Quota: &q}, nil
		}
	}
	return nil, refuse("NoSuchResourceException", "The request failed because the specified service quota does not exist.")
}
