package main

import (
	"context"
	_ "embed"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed one.sql
var oneStatement string

// One writes each heartbeat with a statement of its own, over a pool of connections.
type One struct {
	pool *pgxpool.Pool
}

// Beat runs one UPDATE and its commit. A caller that goes away does not cost the connection.
func (o One) Beat(ctx context.Context, b Beat) (Result, error) {
	var result Result
	err := o.pool.QueryRow(
		context.WithoutCancel(ctx), oneStatement, b.ID, b.ErrorRate, b.SampleError, b.ActiveTasks, b.Uptime,
		b.CurrentTask, b.MonthlySpend, b.Wedged,
	).Scan(&result.Status, &result.Secret)
	if errors.Is(err, pgx.ErrNoRows) {
		return result, errNotFound
	}
	return result, err
}
