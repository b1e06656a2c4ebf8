package awsfake

import (
	"fmt"
	"net/http"
)

// apiError is a refusal as AWS words it. Its code is what clients tell kinds of refusal apart by.
type apiError struct {
	Code    string
	Message string
	HTTP    int // status of the answer; 400 where 0
}

func (e *apiError) Error() string { return e.Code + ": " + e.Message }

func (e *apiError) status() int {
	if e.HTTP == 0 {
		return http.StatusBadRequest
	}
	return e.HTTP
}

func refuse(code, format string, args ...any) error {
	return &apiError{Code: code, Message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error {
	return refuse("InvalidParameterValue", format, args...)
}

// constraint is how AWS words a member that is too long, too short or outside its pattern.
func constraint(value, member, rule string) error {
	return refuse("ValidationError", "1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: %s", value, member, rule)
}

func denied(identity, action, resource string) *apiError {
	return &apiError{Code: "AccessDenied", HTTP: http.StatusForbidden,
		Message: fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s because no identity-based policy allows the %s action", identity, action, resource, action)}
}
