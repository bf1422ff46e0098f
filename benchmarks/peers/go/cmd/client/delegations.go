package main

import (
	"log"
	"strings"
	"sync"
	"time"

	delegationv1 "github.com/molecule-ai/molecule-grpc/gen/go/moleculeai/delegation/v1"
)

const result = "delegate_result"

var task = strings.Repeat("x", 200)

// party is an agent with a connection and an open inbox stream of its own.
type party struct {
	agent  [2]string
	rpc    delegationv1.DelegationServiceClient
	stream delegationv1.DelegationService_SubscribeInboxClient
}

// pair is a caller, and the callee of all its delegations.
type pair struct {
	caller, callee party
	mu             sync.Mutex
	// The end of each delegation, whose result may arrive before the answer that names it.
	ends map[string]chan struct{}
}

// loops repeats Delegate, the callee's stream, UpdateDelegation, the caller's stream, InFlight of
// them at once. Every second agent is the callee of the agent before it.
func loops(p plan) figures {
	pairs := make([]*pair, len(p.Agents)/2)
	for n := range pairs {
		pairs[n] = &pair{
			caller: enter(p.Target, p.Agents[2*n]),
			callee: enter(p.Target, p.Agents[2*n+1]),
			ends:   map[string]chan struct{}{},
		}
		go pairs[n].complete()
		go pairs[n].collect()
	}
	jobs := make([]func(), p.InFlight)
	for n := range jobs {
		jobs[n] = pairs[n%len(pairs)].loop
	}
	return repeat(p, jobs)
}

// enter opens an agent's inbox, and returns once the stream has welcomed the agent.
func enter(target string, agent [2]string) party {
	rpc := delegations(dial(target))
	stream := subscribe(rpc, agent)
	if first, err := stream.Recv(); err != nil || first.GetWelcome() == nil {
		log.Fatalf("no welcome: %v %v", first, err)
	}
	return party{agent, rpc, stream}
}

// item returns the next item of the inbox, acknowledged.
func (p party) item() *delegationv1.InboxItem {
	for {
		frame, err := p.stream.Recv()
		if err != nil {
			log.Fatal(err)
		}
		if item := frame.GetItem(); item != nil {
			send(p.stream, &delegationv1.SubscribeInboxRequest{
				Frame: &delegationv1.SubscribeInboxRequest_Ack{Ack: &delegationv1.Ack{UpToSeq: &item.Seq}},
			})
			return item
		}
	}
}

// complete ends every delegation of the callee's inbox with success.
func (p *pair) complete() {
	for {
		item := p.callee.item()
		if item.GetMethod() == result || item.GetDelegationId() == "" {
			continue
		}
		go func() {
			request := &delegationv1.UpdateDelegationRequest{
				WorkspaceId:     p.callee.agent[0],
				DelegationId:    item.GetDelegationId(),
				Status:          delegationv1.Delegation_completed,
				ResponsePreview: task,
			}
			if _, err := p.callee.rpc.UpdateDelegation(as(p.callee.agent), request); err != nil {
				log.Fatal(err)
			}
		}()
	}
}

// collect tells whoever waits for a result that it is there.
func (p *pair) collect() {
	for {
		if item := p.caller.item(); item.GetMethod() == result {
			close(p.end(item.GetDelegationId()))
		}
	}
}

func (p *pair) end(id string) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ends[id] == nil {
		p.ends[id] = make(chan struct{})
	}
	return p.ends[id]
}

// loop delegates one task, and returns when the result is in the caller's inbox.
func (p *pair) loop() {
	request := &delegationv1.DelegateRequest{
		WorkspaceId: p.caller.agent[0], TargetId: p.callee.agent[0], Task: task,
	}
	made, err := p.caller.rpc.Delegate(as(p.caller.agent), request)
	if err != nil {
		log.Fatal(err)
	}
	select {
	case <-p.end(made.DelegationId):
	case <-time.After(patience):
		log.Fatalf("no result of %s", made.DelegationId)
	}
	p.mu.Lock()
	delete(p.ends, made.DelegationId)
	p.mu.Unlock()
}
