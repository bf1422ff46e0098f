package main

import (
	"log"
	"sync"
	"time"

	delegationv1 "github.com/molecule-ai/molecule-grpc/gen/go/moleculeai/delegation/v1"
	workspacev1 "github.com/molecule-ai/molecule-grpc/gen/go/moleculeai/workspace/v1"
)

func heartbeat(agent [2]string) *workspacev1.HeartbeatRequest {
	tasks := int32(1)
	return &workspacev1.HeartbeatRequest{WorkspaceId: agent[0], ActiveTasks: &tasks}
}

// unaryBeats repeats Heartbeat, one call at a time for each agent, each with its connection.
func unaryBeats(p plan) figures {
	return repeat(p, func(agent [2]string) func() {
		client := workspacev1.NewWorkspaceServiceClient(dial(p.Target))
		ctx := as(agent)
		return func() {
			if _, err := client.Heartbeat(ctx, heartbeat(agent)); err != nil {
				log.Fatal(err)
			}
		}
	})
}

// streamBeats repeats heartbeats over each agent's open SubscribeInbox stream.
func streamBeats(p plan) figures {
	return repeat(p, func(agent [2]string) func() {
		stream, err := delegations(dial(p.Target)).SubscribeInbox(as(agent))
		if err != nil {
			log.Fatal(err)
		}
		send(stream, &delegationv1.SubscribeInboxRequest{
			Frame: &delegationv1.SubscribeInboxRequest_Hello_{
				Hello: &delegationv1.SubscribeInboxRequest_Hello{
					WorkspaceId: agent[0], ConsumerId: "bench", MaxInFlight: 256, Takeover: true,
				},
			},
		})
		return func() {
			send(stream, &delegationv1.SubscribeInboxRequest{
				Frame: &delegationv1.SubscribeInboxRequest_Heartbeat{Heartbeat: heartbeat(agent)},
			})
			for {
				answer, err := stream.Recv()
				if err != nil {
					log.Fatal(err)
				}
				if answer.GetHeartbeatResult() != nil {
					return
				}
			}
		}
	})
}

func send(
	stream delegationv1.DelegationService_SubscribeInboxClient,
	frame *delegationv1.SubscribeInboxRequest,
) {
	if err := stream.Send(frame); err != nil {
		log.Fatal(err)
	}
}

// repeat connects every agent, beats once, and then as often as it can until the time is over.
func repeat(p plan, connect func(agent [2]string) func()) figures {
	jobs := make([]func(), len(p.Agents))
	for n, agent := range p.Agents {
		jobs[n] = connect(agent)
		jobs[n]()
	}
	begin()
	var took recorder
	var all sync.WaitGroup
	before, end := cpu(), time.Now().Add(time.Duration(p.Seconds*float64(time.Second)))
	for _, job := range jobs {
		all.Go(func() {
			for start := time.Now(); start.Before(end); start = time.Now() {
				job()
				if now := time.Now(); now.Before(end) {
					took.add(now.Sub(start))
				}
			}
		})
	}
	all.Wait()
	return figures{Took: took.took, CPU: cpu() - before, Sent: len(took.took)}
}
