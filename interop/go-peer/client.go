package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/nats-io/nuid"
	"github.com/synadia-io/orbit.go/natsext"
)

const (
	// How long a gather waits for one more reply.
	stall = 2 * time.Second
	// The same, for bids.
	auctionStall = time.Second
)

// client asks nodes the way in which the client of Go Nex asks them: the same subjects, the same
// bodies, the same waits, the same judgement of replies. See docs/interop.md.
type client struct {
	nc        *nats.Conn
	namespace string
	// Requests sent so far: each is one exchange.
	sent int
}

// wireError is an error that a node answered, or the lack of an answer.
type wireError struct {
	Status int    `json:"status"`
	Text   string `json:"text"`
	Raw    string `json:"raw,omitempty"`
	ID     string `json:"id,omitempty"`
}

func (e *wireError) Error() string { return fmt.Sprintf("%d %s (%s)", e.Status, e.Text, e.Raw) }

func notFound(text string) error { return &wireError{Status: 404, Text: text, Raw: text} }

// refusal is the error that a reply says to be, or nil.
func refusal(msg *nats.Msg) error {
	code := msg.Header.Get("Nats-Service-Error-Code")
	if code == "" {
		return nil
	}
	status, _ := strconv.Atoi(code)
	text := msg.Header.Get("Nats-Service-Error")
	var body struct {
		ErrorID string `json:"error_id"`
		Error   string `json:"error"`
	}
	if json.Unmarshal(msg.Data, &body) != nil || body.Error == "" {
		body.Error = text
	}
	return &wireError{Status: status, Text: text, Raw: body.Error, ID: body.ErrorID}
}

func (c *client) subject(namespace, verb string) string {
	return "$NEX.SVC." + namespace + ".control." + verb
}

// ask sends one request and decodes the one reply into target.
func (c *client) ask(ctx context.Context, subject string, body, target any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	c.sent++
	msg, err := c.nc.RequestWithContext(ctx, subject, data)
	if err != nil {
		return err
	}
	if err := refusal(msg); err != nil {
		return err
	}
	return json.Unmarshal(msg.Data, target)
}

// gather sends one request and hands on each reply, until take wants no more. Silence and the lack
// of responders are no error; one reply that says to be an error is.
func (c *client) gather(
	ctx context.Context, subject string, body any, quiet time.Duration, take func(*nats.Msg) (bool, error),
) error {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return err
		}
	}
	c.sent++
	replies, err := natsext.RequestMany(ctx, c.nc, subject, data, natsext.RequestManyStall(quiet))
	if err != nil {
		return err
	}
	for msg, err := range replies {
		if errors.Is(err, nats.ErrNoResponders) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := refusal(msg); err != nil {
			return err
		}
		more, err := take(msg)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// nothing tells a reply that says nothing at all.
func nothing(msg *nats.Msg) bool { return msg.Data == nil || string(msg.Data) == "null" }

func (c *client) getNexusPTags(ctx context.Context) (map[string]string, error) {
	tags := map[string]string{}
	err := c.gather(ctx, c.subject(c.namespace, "PTAGS"), nil, stall, func(msg *nats.Msg) (bool, error) {
		if nothing(msg) {
			return true, nil
		}
		var one map[string]string
		if err := json.Unmarshal(msg.Data, &one); err != nil {
			return false, err
		}
		for key, value := range one {
			if _, known := tags[key]; !known {
				tags[key] = value
			}
		}
		return true, nil
	})
	return tags, err
}

func (c *client) getNodeInfo(ctx context.Context, node string) (*nodeInfoResponse, error) {
	info := &nodeInfoResponse{}
	err := c.ask(ctx, c.subject(c.namespace, "INFO."+node), struct{}{}, info)
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded) {
		return nil, notFound("node not found")
	}
	return info, err
}

func (c *client) setLameduck(ctx context.Context, node string, request lameduckRequest) (*lameduckResponse, error) {
	response := &lameduckResponse{}
	err := c.ask(ctx, c.subject(c.namespace, "LAMEDUCK."+node), request, response)
	if errors.Is(err, nats.ErrNoResponders) {
		return &lameduckResponse{}, nil
	}
	return response, err
}

func (c *client) listNodes(ctx context.Context, filter map[string]string) ([]nodePingResponse, error) {
	nodes := []nodePingResponse{}
	request := nodePingRequest{Filter: filter}
	err := c.gather(ctx, c.subject(c.namespace, "PING"), request, stall, func(msg *nats.Msg) (bool, error) {
		if nothing(msg) {
			return true, nil
		}
		var node nodePingResponse
		if err := json.Unmarshal(msg.Data, &node); err != nil {
			return false, err
		}
		// Nexlets written in Go refuse a node whose id is no such key.
		if !nkeys.IsValidPublicServerKey(node.NodeID) || !nkeys.IsValidPublicCurveKey(node.XKey) {
			return false, fmt.Errorf("not the keys of a node: %q, %q", node.NodeID, node.XKey)
		}
		nodes = append(nodes, node)
		return true, nil
	})
	return nodes, err
}

func (c *client) auction(ctx context.Context, namespace, kind string, tags map[string]string) ([]auctionResponse, error) {
	bids := []auctionResponse{}
	request := auctionRequest{AgentType: kind, AuctionID: nuid.Next(), Tags: tags}
	err := c.gather(ctx, c.subject(namespace, "AUCTION"), request, auctionStall, func(msg *nats.Msg) (bool, error) {
		var bid auctionResponse
		if err := json.Unmarshal(msg.Data, &bid); err != nil {
			return false, err
		}
		bids = append(bids, bid)
		return true, nil
	})
	return bids, err
}

func (c *client) startWorkload(ctx context.Context, bid string, request startWorkloadRequest) (*startWorkloadResponse, error) {
	response := &startWorkloadResponse{}
	err := c.ask(ctx, c.subject(request.Namespace, "ADEPLOY."+bid), request, response)
	return response, err
}

func (c *client) listWorkloads(ctx context.Context, filter []string) ([]workloadSummary, error) {
	workloads := []workloadSummary{}
	request := listWorkloadsRequest{Filter: filter, Namespace: c.namespace}
	err := c.gather(ctx, c.subject(c.namespace, "WPING"), request, stall, func(msg *nats.Msg) (bool, error) {
		if nothing(msg) {
			return true, nil
		}
		var part []workloadSummary
		if err := json.Unmarshal(msg.Data, &part); err != nil {
			return false, err
		}
		workloads = append(workloads, part...)
		return true, nil
	})
	return workloads, err
}

func (c *client) stopWorkload(ctx context.Context, id string) (*stopWorkloadResponse, error) {
	response := &stopWorkloadResponse{ID: id, Message: "workload not found"}
	owner := c.namespace
	if owner == "system" {
		found, err := c.listWorkloads(ctx, []string{id})
		if err != nil {
			return nil, err
		}
		if len(found) != 1 || found[0].Namespace == "" {
			return response, nil
		}
		owner = found[0].Namespace
	}
	request := stopWorkloadRequest{Namespace: owner}
	err := c.gather(ctx, c.subject(owner, "UNDEPLOY."+id), request, stall, func(msg *nats.Msg) (bool, error) {
		if nothing(msg) {
			return true, nil
		}
		var one stopWorkloadResponse
		if err := json.Unmarshal(msg.Data, &one); err != nil {
			return false, err
		}
		if one.Stopped {
			response = &one
		}
		return !one.Stopped, nil
	})
	return response, err
}

func (c *client) cloneWorkload(ctx context.Context, id string, tags map[string]string) (*startWorkloadResponse, error) {
	key, err := nkeys.CreateCurveKeys()
	if err != nil {
		return nil, err
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	var original startWorkloadRequest
	request := cloneWorkloadRequest{Namespace: c.namespace, NewTargetXKey: public}
	err = c.gather(ctx, c.subject(c.namespace, "CLONE."+id), request, stall, func(msg *nats.Msg) (bool, error) {
		if nothing(msg) {
			return true, nil
		}
		return false, json.Unmarshal(msg.Data, &original)
	})
	if err != nil {
		return nil, err
	}
	if original.Namespace == "" {
		return nil, notFound("workload not found")
	}
	bids, err := c.auction(ctx, original.Namespace, original.Type, tags)
	if err != nil {
		return nil, err
	}
	if len(bids) == 0 {
		return nil, notFound("no bids")
	}
	original.Tags = tags
	return c.startWorkload(ctx, bids[0].BidderID, original)
}

// called is what a function answered.
type called struct {
	Data      string `json:"data"`
	Workload  string `json:"workload_id"`
	Namespace string `json:"namespace"`
	Error     string `json:"error"`
}

func (c *client) trigger(ctx context.Context, subject, data string) (*called, error) {
	c.sent++
	msg, err := c.nc.RequestWithContext(ctx, subject, []byte(data))
	if err != nil {
		return nil, err
	}
	header := msg.Header.Get
	return &called{string(msg.Data), header("workload_id"), header("namespace"), header("error")}, nil
}

func createServerSeed() (string, error) {
	key, err := nkeys.CreateServer()
	if err != nil {
		return "", err
	}
	seed, err := key.Seed()
	return string(seed), err
}
