package main

import (
	"log"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// An append that takes longer fails, and an item that arrives later counts as lost.
const patience = time.Minute

var began = time.Now()

// stamp is the moment of an append, as the text of its message.
func stamp() string {
	return strconv.FormatInt(int64(time.Since(began)), 10)
}

// courier appends messages to inboxes round robin, and takes the time of those that arrive.
type courier struct {
	plan    plan
	took    recorder
	arrived atomic.Int64
	// append returns when the message is durable.
	append func(inbox int) error
}

// deliver takes the time of a message that reached its client.
func (c *courier) deliver(text string) {
	at, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		log.Fatalf("not a stamp: %q", text)
	}
	c.took.add(time.Since(began) - time.Duration(at))
	c.arrived.Add(1)
}

// run appends at the plan's rate, or as fast as InFlight appends at once go, and waits for all.
func (c *courier) run() figures {
	begin()
	before := cpu()
	var sent atomic.Int64
	if c.plan.Rate > 0 {
		c.steadily(&sent)
	} else {
		c.flatOut(&sent)
	}
	last := time.Now()
	for c.arrived.Load() < sent.Load() && time.Since(last) < patience {
		time.Sleep(time.Millisecond)
	}
	if lost := sent.Load() - c.arrived.Load(); lost != 0 {
		log.Fatalf("%d of %d messages did not arrive", lost, sent.Load())
	}
	return figures{Took: c.took.took, CPU: cpu() - before, Sent: int(sent.Load())}
}

func (c *courier) seconds() time.Duration {
	return time.Duration(c.plan.Seconds * float64(time.Second))
}

func (c *courier) steadily(sent *atomic.Int64) {
	var all sync.WaitGroup
	start := time.Now()
	for n := 0; ; n++ {
		due := start.Add(time.Duration(float64(n) / c.plan.Rate * float64(time.Second)))
		if due.Sub(start) >= c.seconds() {
			break
		}
		time.Sleep(time.Until(due))
		all.Go(func() { c.one(n, sent) })
	}
	all.Wait()
}

func (c *courier) flatOut(sent *atomic.Int64) {
	var all sync.WaitGroup
	var next atomic.Int64
	end := time.Now().Add(c.seconds())
	for range c.plan.InFlight {
		all.Go(func() {
			for time.Now().Before(end) {
				c.one(int(next.Add(1)), sent)
			}
		})
	}
	all.Wait()
}

func (c *courier) one(n int, sent *atomic.Int64) {
	if err := c.append(n % len(c.plan.Agents)); err != nil {
		log.Fatal(err)
	}
	sent.Add(1)
}
