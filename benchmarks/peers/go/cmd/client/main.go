// Command client is the load of `python -m benchmarks.peers` where h2load cannot make it: open
// streams, and messages from append to delivery.
//
// It reads a plan (one line of JSON), connects, prints "ready", waits for a line, works, and prints
// its figures as one line of JSON, like the other client processes of the benchmarks.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"sync"
	"syscall"
	"time"
)

type plan struct {
	Work   string `json:"work"`
	Target string `json:"target"`
	// Where streams of messages are read; empty for Target.
	Readers  string      `json:"readers"`
	Agents   [][2]string `json:"agents"`
	Seconds  float64     `json:"seconds"`
	Rate     float64     `json:"rate"`
	InFlight int         `json:"in_flight"`
}

type figures struct {
	// Milliseconds of each call that ended in time, or of each message from append to client.
	Took []float64 `json:"took"`
	CPU  float64   `json:"cpu"`
	// Messages that were appended; every one of them arrived.
	Sent int `json:"sent"`
}

// recorder collects milliseconds from many goroutines.
type recorder struct {
	mu   sync.Mutex
	took []float64
}

func (r *recorder) add(took time.Duration) {
	r.mu.Lock()
	r.took = append(r.took, float64(took)/float64(time.Millisecond))
	r.mu.Unlock()
}

var input = bufio.NewReaderSize(os.Stdin, 1<<26)

// begin tells the parent that everything is open, and waits for its line.
func begin() {
	fmt.Println("ready")
	if _, err := input.ReadString('\n'); err != nil {
		log.Fatal(err)
	}
}

func cpu() float64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		log.Fatal(err)
	}
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
}

func main() {
	line, err := input.ReadBytes('\n')
	if err != nil {
		log.Fatal(err)
	}
	var p plan
	if err := json.Unmarshal(line, &p); err != nil {
		log.Fatal(err)
	}
	works := map[string]func(plan) figures{
		"beats, a call": unaryBeats, "beats, on the stream": streamBeats,
		"delegations":    loops,
		"messages, ours": ourMessages, "messages, nats": natsMessages,
	}
	work, known := works[p.Work]
	if !known {
		log.Fatalf("no such work: %q", p.Work)
	}
	if err := json.NewEncoder(os.Stdout).Encode(work(p)); err != nil {
		log.Fatal(err)
	}
}
