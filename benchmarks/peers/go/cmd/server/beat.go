package main

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgtype"
)

var (
	errNotFound        = errors.New("workspace not found")
	errUnauthenticated = errors.New("the token is not valid")
	errInvalid         = errors.New("the request is not valid")
)

// Beat is one heartbeat; nil means that nothing was reported.
type Beat struct {
	ID           pgtype.UUID
	ErrorRate    *float64
	SampleError  *string
	ActiveTasks  *int32
	Uptime       *int32
	CurrentTask  *string
	MonthlySpend *int64
	Wedged       bool
}

// Result is the workspace's row after a heartbeat.
type Result struct {
	Status string
	Secret string
}

// Beats makes heartbeats durable: a heartbeat is committed when Beat returns.
type Beats interface {
	Beat(ctx context.Context, beat Beat) (Result, error)
}

// newBeat checks what one heartbeat of either protocol carries, as the rules of the proto do.
func newBeat(
	id pgtype.UUID, rate *float64, sample *string, tasks, uptime *int32, task *string,
	spend *float64, state string,
) (Beat, error) {
	if rate != nil && (*rate < 0 || *rate > 1) {
		return Beat{}, errInvalid
	}
	if tasks != nil && (*tasks < 0 || *tasks > 1_000_000) {
		return Beat{}, errInvalid
	}
	if uptime != nil && *uptime < 0 {
		return Beat{}, errInvalid
	}
	beat := Beat{
		ID: id, ErrorRate: rate, SampleError: sample, ActiveTasks: tasks, Uptime: uptime,
		CurrentTask: task, Wedged: state == "wedged",
	}
	if spend != nil && *spend > 0 {
		cents := int64(min(*spend, 1e12))
		beat.MonthlySpend = &cents
	}
	return beat, nil
}
