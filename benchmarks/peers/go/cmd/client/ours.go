package main

import (
	"context"
	"fmt"
	"log"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	delegationv1 "github.com/molecule-ai/molecule-grpc/gen/go/moleculeai/delegation/v1"
)

const (
	streamsOfConnection = 100
	// Agents that append, each with its connection; all others read.
	senders = 64
	// What a sender waits before it repeats a message that a limit of its organisation refused.
	pause = 50 * time.Millisecond
	body  = `{"jsonrpc":"2.0","method":"message/send","params":{"message":{"role":"user",` +
		`"messageId":"%s","parts":[{"kind":"text","text":"%s"}]}}}`
)

// ourMessages appends with SendMessage, as the first agents, to the inboxes that the others stream.
func ourMessages(p plan) figures {
	readers := p.Agents[senders:]
	from := make([]sender, senders)
	for n := range from {
		from[n] = sender{p.Agents[n][0], as(p.Agents[n]), delegations(dial(p.Target))}
	}
	p.Agents = readers
	c := &courier{plan: p}
	var conn *grpc.ClientConn
	at := p.Readers
	if at == "" {
		at = p.Target
	}
	for n, agent := range readers {
		if n%streamsOfConnection == 0 {
			conn = dial(at)
		}
		follow(c, conn, agent)
	}
	c.append = func(inbox int) error {
		return from[inbox%senders].send(readers[inbox][0])
	}
	return c.run()
}

type sender struct {
	id  string
	ctx context.Context
	rpc delegationv1.DelegationServiceClient
}

// send returns when the message is durable; its stamp is that of the first try.
func (s sender) send(to string) error {
	at := stamp()
	request := &delegationv1.SendMessageRequest{
		WorkspaceId: to,
		SourceId:    s.id,
		Body: &httpbody.HttpBody{
			ContentType: "application/json",
			Data:        fmt.Appendf(nil, body, at, at),
		},
	}
	for {
		_, err := s.rpc.SendMessage(s.ctx, request)
		if status.Code(err) != codes.ResourceExhausted {
			return err
		}
		time.Sleep(pause)
	}
}

// follow opens an agent's inbox stream for items from now on, returns after its welcome, and
// delivers them.
func follow(c *courier, conn *grpc.ClientConn, agent [2]string) {
	stream, err := delegations(conn).StreamInbox(as(agent), &delegationv1.StreamInboxRequest{
		WorkspaceId: agent[0], Start: &delegationv1.StartPosition{FromNow: true},
	})
	if err != nil {
		log.Fatal(err)
	}
	first, err := stream.Recv()
	if err != nil || first.GetWelcome() == nil {
		log.Fatalf("no welcome: %v %v", first, err)
	}
	go func() {
		for {
			frame, err := stream.Recv()
			if err != nil {
				log.Fatal(err)
			}
			if item := frame.GetItem(); item != nil {
				c.deliver(strings.TrimSpace(item.Text))
			}
		}
	}()
}
