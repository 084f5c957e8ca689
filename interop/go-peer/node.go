package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nkeys"
	"github.com/nats-io/nuid"
	"github.com/synadia-io/orbit.go/natsext"
)

const (
	// How long a node gathers where nobody set another limit: the timeout of its connection.
	gatherLimit = 2 * time.Second
	// How long a clone's owner may take.
	cloneLimit = 3 * time.Second
	// How long a start may take.
	startLimit = time.Minute
	// A nexlet that was heard longer ago than this gets no work.
	healthyLimit = 10 * time.Second
)

type agent struct {
	registration registerRequest
	heard        time.Time
	summary      agentSummary
}

// goNode is a node in the manner of Go Nex: no credentials, gathers that count messages, bids that
// last until it ends, and state that is handed back whole to whoever registers for its type.
type goNode struct {
	nc      *nats.Conn
	url     string
	id      string
	xkey    string
	nexus   string
	started time.Time
	// Where the state is kept; it is read at the start.
	stateFile string
	// Set by the order to drain; the node goes on bidding, as a Go node does.
	lameduck atomic.Bool

	mu     sync.Mutex
	agents map[string]*agent
	bids   map[string]bool
	// Start requests by `<type>_<id>`.
	state map[string]startWorkloadRequest
}

// runNode serves until ctx ends. With Unheard it does not say that it has started, as if nobody had listened.
func runNode(ctx context.Context, nc *nats.Conn, url string, args arguments) error {
	key, err := nkeys.FromSeed([]byte(args.Seed))
	if err != nil {
		return err
	}
	id, err := key.PublicKey()
	if err != nil {
		return err
	}
	curve, err := nkeys.CreateCurveKeys()
	if err != nil {
		return err
	}
	xkey, err := curve.PublicKey()
	if err != nil {
		return err
	}
	n := &goNode{
		nc: nc, url: url, id: id, xkey: xkey, nexus: args.Nexus, started: time.Now(), stateFile: args.State,
		agents: map[string]*agent{}, bids: map[string]bool{}, state: map[string]startWorkloadRequest{},
	}
	if data, err := os.ReadFile(args.State); err == nil {
		if err := json.Unmarshal(data, &n.state); err != nil {
			return err
		}
	}
	service, err := n.serve()
	if err != nil {
		return err
	}
	defer service.Stop()
	if !args.Unheard {
		n.sayStarted()
	}
	if err := nc.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "{\"node\":%q}\n", id)
	beats := time.NewTicker(beatPeriod)
	defer beats.Stop()
	for {
		select {
		case <-ctx.Done():
			say("node ended", map[string]any{"served": served(service)})
			return nil
		case <-beats.C:
			n.beat()
		}
	}
}

// sayStarted publishes the event of a node that begins.
func (n *goNode) sayStarted() {
	data, _ := json.Marshal(map[string]any{
		"id": n.id, "name": "go", "nexus": n.nexus, "tags": n.tags(), "type": "io.synadia.nex.event.nexnode_started",
	})
	n.nc.Publish("$NEX.FEED."+n.id+".events.NODESTARTED", data)
}

func (n *goNode) beat() {
	n.mu.Lock()
	var all []string
	for id, a := range n.agents {
		all = append(all, fmt.Sprintf("%s [%s]", id, a.registration.Type))
	}
	n.mu.Unlock()
	data, _ := json.Marshal(map[string]string{"registrations": strings.Join(all, ", ")})
	n.nc.Publish("$NEX.SVC.system.control.HEARTBEAT."+n.id, data)
}

func (n *goNode) serve() (micro.Service, error) {
	service, err := micro.AddService(n.nc, micro.Config{Name: "nexnode", Version: "0.4.1"})
	if err != nil {
		return nil, err
	}
	for _, endpoint := range []struct {
		name, subject, group string
		handle               func(micro.Request)
	}{
		{"PingPlacementTags", "$NEX.SVC.system.control.PTAGS", n.id, func(r micro.Request) { reply(r, n.tags()) }},
		{"PingNexus", "$NEX.SVC.system.control.PING", n.id, n.onPing},
		{"PingNode", "$NEX.SVC.system.control.PING." + n.id, n.id, n.onPing},
		{"GetNodeInfo", "$NEX.SVC.system.control.INFO." + n.id, n.id, n.onInfo},
		{"SetLameduck", "$NEX.SVC.system.control.LAMEDUCK." + n.id, n.id, n.onLameduck},
		{"RegisterRemoteAgent", "$NEX.SVC." + n.nexus + ".agent.RREGISTER", n.nexus, n.onRegisterRemote},
		{"RegisterAgent", "$NEX.SVC." + n.id + ".agent.REGISTER.*", n.id, n.onRegister},
		{"AuctionRequest", "$NEX.SVC.*.control.AUCTION", n.id, n.onAuction},
		{"StopWorkload", "$NEX.SVC.*.control.UNDEPLOY.*", n.id, n.onStop},
		{"AuctionDeployWorkload", "$NEX.SVC.*.control.ADEPLOY.*", n.id, n.onDeploy},
		{"CloneWorkload", "$NEX.SVC.*.control.CLONE.*", n.id, n.onClone},
		{"NamespacePingRequest", "$NEX.SVC.*.control.WPING", n.id, n.onList},
	} {
		err := service.AddEndpoint(endpoint.name, micro.HandlerFunc(endpoint.handle),
			micro.WithEndpointSubject(endpoint.subject), micro.WithEndpointQueueGroup(endpoint.group))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", endpoint.name, err)
		}
	}
	return service, nil
}

// refuse answers with an error as a Go node does.
func refuse(r micro.Request, code int, text string, err error) {
	raw := text
	if err != nil {
		raw = err.Error()
	}
	if code >= 500 {
		raw = "internal server error"
	}
	body, _ := json.Marshal(map[string]string{"error_id": nuid.Next(), "error": raw})
	r.Error(strconv.Itoa(code), text, body)
}

func (n *goNode) tags() map[string]string {
	return map[string]string{"nex.nexus": n.nexus, "nex.node": "go", "nex.os": "linux",
		"nex.lameduck": strconv.FormatBool(n.lameduck.Load())}
}

func (n *goNode) creds() natsConnectionData { return natsConnectionData{Servers: []string{n.url}} }

func (n *goNode) onPing(r micro.Request) {
	var request nodePingRequest
	if err := json.Unmarshal(r.Data(), &request); err != nil {
		refuse(r, 400, "failed to unmarshal ping request", err)
		return
	}
	tags := n.tags()
	for key, value := range request.Filter {
		if tags[key] != value {
			return
		}
	}
	state := nodeState("running")
	if n.lameduck.Load() {
		state = "lameduck"
	}
	reply(r, nodePingResponse{
		AgentCount: n.count(), NodeID: n.id, StartTime: n.started, State: state, Tags: tags,
		Version: "0.4.1", XKey: n.xkey,
	})
}

func (n *goNode) onLameduck(r micro.Request) {
	n.lameduck.Store(true)
	reply(r, lameduckResponse{Success: true})
}

func (n *goNode) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.agents)
}

func (n *goNode) onInfo(r micro.Request) {
	info := nodeInfoResponse{
		NodeID: n.id, Tags: n.tags(), Uptime: time.Since(n.started).String(), Version: "0.4.1", XKey: n.xkey,
	}
	n.mu.Lock()
	for id, a := range n.agents {
		health := "offline"
		if a.healthy() {
			health = "healthy"
		}
		info.Agents = append(info.Agents, nodeAgentSummary{
			Health: health, ID: id, LastHeartbeat: a.heard, Summary: a.summary,
		})
	}
	n.mu.Unlock()
	reply(r, info)
}

func (a *agent) healthy() bool {
	return a.summary.State == "running" && time.Since(a.heard) <= healthyLimit
}

// pick chooses any healthy agent of the type.
func (n *goNode) pick(kind string) (string, *agent) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var ids []string
	for id, a := range n.agents {
		if a.registration.Type == kind && a.healthy() {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return "", nil
	}
	id := ids[rand.IntN(len(ids))]
	return id, n.agents[id]
}

func (n *goNode) onRegisterRemote(r micro.Request) {
	var request map[string]any
	if err := json.Unmarshal(r.Data(), &request); err != nil {
		refuse(r, 400, "failed to unmarshal register remote agent request", err)
		return
	}
	creds := n.creds()
	reply(r, registerRemoteResponse{AssignedID: nuid.Next(), Creds: &creds, RespondTo: n.id})
}

func (n *goNode) onRegister(r micro.Request) {
	id := token(r.Subject(), 5)
	var request registerRequest
	if err := json.Unmarshal(r.Data(), &request); err != nil {
		refuse(r, 400, "failed to unmarshal register local agent request", err)
		return
	}
	if request.Type == "" {
		refuse(r, 400, "register_type is required", nil)
		return
	}
	if !json.Valid([]byte(request.Schema)) {
		refuse(r, 400, "failed to unmarshal start request schema", nil)
		return
	}
	n.mu.Lock()
	_, known := n.agents[id]
	if !known {
		n.agents[id] = &agent{registration: request}
	}
	existing := map[string]agentStartWorkloadRequest{}
	for key, stored := range n.state {
		// By the prefix alone, as a Go node reads its bucket.
		if strings.HasPrefix(key, request.Type) {
			workload := strings.TrimPrefix(key, request.Type+"_")
			existing[workload] = agentStartWorkloadRequest{Request: stored, Creds: n.creds()}
		}
	}
	n.mu.Unlock()
	if known {
		refuse(r, 500, "failed to update registration", nil)
		return
	}
	if _, err := n.nc.Subscribe("$NEX.SVC."+n.id+".agent.HEARTBEAT."+id, n.onHeartbeat); err != nil {
		refuse(r, 500, "failed to subscribe", err)
		return
	}
	reply(r, registerResponse{Connection: n.creds(), Existing: existing, NodeID: n.id, Success: true})
}

func (n *goNode) onHeartbeat(msg *nats.Msg) {
	var beat agentHeartbeat
	if err := json.Unmarshal(msg.Data, &beat); err != nil {
		say("unreadable heartbeat", map[string]any{"error": err.Error()})
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if a, ok := n.agents[token(msg.Subject, 5)]; ok {
		a.heard, a.summary = time.Now(), beat.Summary
	}
}

func (n *goNode) onAuction(r micro.Request) {
	var request auctionRequest
	if err := json.Unmarshal(r.Data(), &request); err != nil {
		refuse(r, 400, "failed to unmarshal auction request", err)
		return
	}
	_, a := n.pick(request.AgentType)
	tags := n.tags()
	for key, value := range request.Tags {
		if tags[key] != value {
			return
		}
	}
	if a == nil {
		return
	}
	bid := nuid.Next()
	n.mu.Lock()
	n.bids[bid] = true
	n.mu.Unlock()
	reply(r, auctionResponse{
		BidderID: bid, StartRequestSchema: a.registration.Schema,
		SupportedLifecycles: a.registration.Lifecycles, XKey: a.registration.PublicXKey,
	})
}

// mismatch refuses a request for a namespace that its subject does not allow.
func mismatch(r micro.Request, namespace string) bool {
	own := token(r.Subject(), 2)
	own, _, _ = strings.Cut(own, ".")
	if own == "system" || own == namespace {
		return false
	}
	refuse(r, 403, "namespace mismatch: "+own+" != "+namespace, errors.New("namespace mismatch"))
	return true
}

func (n *goNode) onDeploy(r micro.Request) {
	n.mu.Lock()
	known := n.bids[token(r.Subject(), 5)]
	n.mu.Unlock()
	if !known {
		return
	}
	var request startWorkloadRequest
	if err := json.Unmarshal(r.Data(), &request); err != nil {
		refuse(r, 400, "failed to unmarshal auction deploy workload request", err)
		return
	}
	if mismatch(r, request.Namespace) {
		return
	}
	agentID, a := n.pick(request.Type)
	if a == nil {
		refuse(r, 404, "workload type not found", nil)
		return
	}
	workload := nuid.Next()
	order, _ := json.Marshal(agentStartWorkloadRequest{Request: request, Creds: n.creds()})
	msg, err := n.nc.Request("$NEX.SVC."+n.id+".agent."+agentID+".STARTWORKLOAD."+workload, order, startLimit)
	if err != nil {
		refuse(r, 500, "failed to publish start workload request", err)
		return
	}
	r.Respond(msg.Data, micro.WithHeaders(micro.Headers(msg.Header)))
	n.keep(func() { n.state[request.Type+"_"+workload] = request })
}

// keep changes the state and writes it down.
func (n *goNode) keep(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
	data, err := json.Marshal(n.state)
	if err == nil {
		err = os.WriteFile(n.stateFile, data, 0o600)
	}
	if err != nil {
		say("state is lost", map[string]any{"error": err.Error()})
	}
}

// gather asks all agents and hands on their replies, until as many messages have come as there are
// agents, whoever sent them.
func (n *goNode) gather(verb string, body []byte, take func(*nats.Msg) bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), gatherLimit)
	defer cancel()
	most := n.count()
	// An error for no agents at all, as in Go Nex. The counting itself is done here: this version of
	// natsext waits for one more message than it is told to.
	replies, err := natsext.RequestMany(ctx, n.nc, "$NEX.SVC."+n.id+".agent."+verb, body,
		natsext.RequestManyMaxMessages(most))
	if err != nil {
		return err
	}
	for msg, err := range replies {
		most--
		if err != nil || !take(msg) || most == 0 {
			return nil
		}
	}
	return nil
}

func (n *goNode) onStop(r micro.Request) {
	id := token(r.Subject(), 5)
	var request stopWorkloadRequest
	if err := json.Unmarshal(r.Data(), &request); err != nil {
		refuse(r, 400, "failed to unmarshal stop workload request", err)
		return
	}
	if mismatch(r, request.Namespace) {
		return
	}
	response := stopWorkloadResponse{ID: id, Message: errNotFound.Error()}
	n.gather("STOPWORKLOAD."+id, r.Data(), func(msg *nats.Msg) bool {
		var one stopWorkloadResponse
		if json.Unmarshal(msg.Data, &one) == nil && one.Stopped {
			response = one
		}
		return !response.Stopped
	})
	reply(r, response)
	n.keep(func() { delete(n.state, response.Type+"_"+id) })
}

func (n *goNode) onClone(r micro.Request) {
	var request cloneWorkloadRequest
	if err := json.Unmarshal(r.Data(), &request); err != nil {
		refuse(r, 400, "failed to unmarshal clone workload request", err)
		return
	}
	if mismatch(r, request.Namespace) {
		return
	}
	msg, err := n.nc.Request("$NEX.SVC."+n.id+".agent.GETWORKLOAD."+token(r.Subject(), 5), r.Data(), cloneLimit)
	if err != nil || msg.Header.Get("Nats-Service-Error") == errNotFound.Error() {
		return
	}
	var found startWorkloadRequest
	if err := json.Unmarshal(msg.Data, &found); err != nil {
		refuse(r, 500, "failed to unmarshal workload definition from agent", err)
		return
	}
	own := strings.Split(r.Subject(), ".")[2]
	if own == "system" || own == found.Namespace {
		reply(r, found)
	}
}

func (n *goNode) onList(r micro.Request) {
	var request listWorkloadsRequest
	if err := json.Unmarshal(r.Data(), &request); err != nil {
		refuse(r, 400, "failed to unmarshal ping request", err)
		return
	}
	if mismatch(r, request.Namespace) {
		return
	}
	all := []workloadSummary{}
	err := n.gather("QUERYWORKLOADS", r.Data(), func(msg *nats.Msg) bool {
		var part []workloadSummary
		if err := json.Unmarshal(msg.Data, &part); err != nil {
			say("unreadable list", map[string]any{"error": err.Error()})
		}
		all = slices.Concat(all, part)
		return true
	})
	if err != nil {
		refuse(r, 500, "failed to publish query workloads request", err)
		return
	}
	reply(r, all)
}
