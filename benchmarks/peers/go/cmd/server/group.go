package main

import (
	"context"
	_ "embed"
	"log"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	mostInFlush = 512
	mostWaiting = 20_000
)

//go:embed group.sql
var groupStatement string

type outcome struct {
	result Result
	err    error
}

type waiter struct {
	beat Beat
	done chan outcome
}

// Group writes all heartbeats that wait with one statement, one flush at a time, without a timer.
type Group struct {
	conn    *pgx.Conn
	waiting chan waiter
}

// newGroup opens the connection of the flushes, with the settings that our own writer has.
func newGroup(ctx context.Context, dsn string) (*Group, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["enable_seqscan"] = "off"
	config.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	group := &Group{conn: conn, waiting: make(chan waiter, mostWaiting)}
	go group.run()
	return group, nil
}

// Beat returns once the flush that carries the heartbeat is committed.
func (g *Group) Beat(_ context.Context, beat Beat) (Result, error) {
	done := make(chan outcome, 1)
	g.waiting <- waiter{beat, done}
	answer := <-done
	return answer.result, answer.err
}

func (g *Group) run() {
	batch := make([]waiter, 0, mostInFlush)
	for first := range g.waiting {
		batch = g.take(append(batch[:0], first))
		outcomes, err := g.flush(context.Background(), batch)
		if err != nil {
			log.Printf("flush of %d: %v", len(batch), err)
		}
		for n, each := range batch {
			if err != nil {
				each.done <- outcome{err: err}
			} else {
				each.done <- outcomes[n]
			}
		}
	}
}

// take adds everything that waits now. One caller is one workspace, so no key comes twice.
func (g *Group) take(batch []waiter) []waiter {
	for len(batch) < mostInFlush {
		select {
		case next := <-g.waiting:
			batch = append(batch, next)
		default:
			return batch
		}
	}
	return batch
}

func (g *Group) flush(ctx context.Context, batch []waiter) ([]outcome, error) {
	rows, err := g.conn.Query(ctx, groupStatement, columns(batch)...)
	if err != nil {
		return nil, err
	}
	outcomes := make([]outcome, len(batch))
	for n := range outcomes {
		outcomes[n].err = errNotFound
	}
	var ordinal int64
	var result Result
	_, err = pgx.ForEachRow(rows, []any{&ordinal, &result.Status, &result.Secret}, func() error {
		outcomes[ordinal-1] = outcome{result: result}
		return nil
	})
	return outcomes, err
}

func columns(batch []waiter) []any {
	size := len(batch)
	ids := make([]pgtype.UUID, size)
	rates, samples := make([]*float64, size), make([]*string, size)
	tasks, uptimes := make([]*int32, size), make([]*int32, size)
	current, spends := make([]*string, size), make([]*int64, size)
	wedged := make([]bool, size)
	for n, each := range batch {
		b := each.beat
		ids[n], rates[n], samples[n], tasks[n] = b.ID, b.ErrorRate, b.SampleError, b.ActiveTasks
		uptimes[n], current[n], spends[n] = b.Uptime, b.CurrentTask, b.MonthlySpend
		wedged[n] = b.Wedged
	}
	return []any{ids, rates, samples, tasks, uptimes, current, spends, wedged}
}
