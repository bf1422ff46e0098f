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
	return repeat(p, each(p.Agents, func(agent [2]string) func() {
		client := workspacev1.NewWorkspaceServiceClient(dial(p.Target))
		ctx := as(agent)
		return func() {
			if _, err := client.Heartbeat(ctx, heartbeat(agent)); err != nil {
				log.Fatal(err)
			}
		}
	}))
}

// streamBeats repeats heartbeats over each agent's open SubscribeInbox stream.
func streamBeats(p plan) figures {
	return repeat(p, each(p.Agents, func(agent [2]string) func() {
		stream := subscribe(delegations(dial(p.Target)), agent)
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
	}))
}

// subscribe opens an agent's inbox stream.
func subscribe(
	rpc delegationv1.DelegationServiceClient, agent [2]string,
) delegationv1.DelegationService_SubscribeInboxClient {
	stream, err := rpc.SubscribeInbox(as(agent))
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
	return stream
}

func send(
	stream delegationv1.DelegationService_SubscribeInboxClient,
	frame *delegationv1.SubscribeInboxRequest,
) {
	if err := stream.Send(frame); err != nil {
		log.Fatal(err)
	}
}

// each connects every agent; its job.
func each(agents [][2]string, connect func(agent [2]string) func()) []func() {
	jobs := make([]func(), len(agents))
	for n, agent := range agents {
		jobs[n] = connect(agent)
	}
	return jobs
}

// repeat does every job once, and then all of them, each as often as it can, until the time is over.
func repeat(p plan, jobs []func()) figures {
	for _, job := range jobs {
		job()
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
