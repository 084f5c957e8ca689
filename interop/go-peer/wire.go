package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// decodeInto fills target from data, and refuses a document in which a key is missing. Keys are
// matched in exact case, as the decoders of Go Nex do; a null document is the zero value.
func decodeInto(data []byte, target any, keys ...string) error {
	if string(data) != "null" {
		var found map[string]json.RawMessage
		if err := json.Unmarshal(data, &found); err != nil {
			return err
		}
		for _, key := range keys {
			if _, ok := found[key]; !ok {
				return fmt.Errorf("field %s in %T: required", key, target)
			}
		}
	}
	return json.Unmarshal(data, target)
}

// oneOf decodes a string that must be one of the listed ones.
func oneOf(data []byte, target *string, allowed ...string) error {
	if err := json.Unmarshal(data, target); err != nil {
		return err
	}
	if !slices.Contains(allowed, *target) {
		return fmt.Errorf("invalid value %q, expected one of %q", *target, allowed)
	}
	return nil
}

type lifecycle string

func (l *lifecycle) UnmarshalJSON(data []byte) error {
	return oneOf(data, (*string)(l), "service", "job", "function")
}

type workloadState string

func (s *workloadState) UnmarshalJSON(data []byte) error {
	return oneOf(data, (*string)(s), "starting", "running", "warm", "stopping", "stopped", "error")
}

type nodeState string

func (s *nodeState) UnmarshalJSON(data []byte) error {
	return oneOf(data, (*string)(s), "starting", "running", "lameduck", "stopping", "error")
}

type auctionRequest struct {
	AgentType string            `json:"agent_type"`
	AuctionID string            `json:"auction_id"`
	Tags      map[string]string `json:"tags"`
}

func (r *auctionRequest) UnmarshalJSON(data []byte) error {
	type plain auctionRequest
	return decodeInto(data, (*plain)(r), "agent_type", "auction_id", "tags")
}

type auctionResponse struct {
	BidderID            string      `json:"bidder_id"`
	StartRequestSchema  string      `json:"start_request_schema"`
	SupportedLifecycles []lifecycle `json:"supported_lifecycles"`
	XKey                string      `json:"xkey"`
}

func (r *auctionResponse) UnmarshalJSON(data []byte) error {
	type plain auctionResponse
	return decodeInto(data, (*plain)(r), "bidder_id", "start_request_schema", "supported_lifecycles", "xkey")
}

type startWorkloadRequest struct {
	Description string            `json:"description"`
	Metadata    map[string]any    `json:"metadata,omitempty"`
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace"`
	Reference   string            `json:"reference,omitempty"`
	RunRequest  string            `json:"run_request"`
	Tags        map[string]string `json:"tags"`
	Lifecycle   lifecycle         `json:"workload_lifecycle"`
	Type        string            `json:"workload_type"`
}

func (r *startWorkloadRequest) UnmarshalJSON(data []byte) error {
	type plain startWorkloadRequest
	return decodeInto(data, (*plain)(r), "description", "name", "namespace", "run_request", "tags",
		"workload_lifecycle", "workload_type")
}

type startWorkloadResponse struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

func (r *startWorkloadResponse) UnmarshalJSON(data []byte) error {
	type plain startWorkloadResponse
	return decodeInto(data, (*plain)(r), "id", "name")
}

type stopWorkloadRequest struct {
	Namespace string `json:"namespace"`
}

func (r *stopWorkloadRequest) UnmarshalJSON(data []byte) error {
	type plain stopWorkloadRequest
	return decodeInto(data, (*plain)(r), "namespace")
}

type stopWorkloadResponse struct {
	ID      string `json:"id"`
	Message string `json:"message"`
	Stopped bool   `json:"stopped"`
	Type    string `json:"workload_type"`
}

func (r *stopWorkloadResponse) UnmarshalJSON(data []byte) error {
	type plain stopWorkloadResponse
	return decodeInto(data, (*plain)(r), "id", "message", "stopped", "workload_type")
}

type cloneWorkloadRequest struct {
	Namespace     string `json:"namespace"`
	NewTargetXKey string `json:"new_target_xkey"`
}

func (r *cloneWorkloadRequest) UnmarshalJSON(data []byte) error {
	type plain cloneWorkloadRequest
	return decodeInto(data, (*plain)(r), "namespace", "new_target_xkey")
}

type nodePingRequest struct {
	Filter map[string]string `json:"filter"`
}

func (r *nodePingRequest) UnmarshalJSON(data []byte) error {
	type plain nodePingRequest
	return decodeInto(data, (*plain)(r), "filter")
}

type nodePingResponse struct {
	AgentCount int               `json:"agent_count"`
	NodeID     string            `json:"node_id"`
	StartTime  time.Time         `json:"start_time"`
	State      nodeState         `json:"state"`
	Tags       map[string]string `json:"tags"`
	Version    string            `json:"version"`
	XKey       string            `json:"xkey"`
}

func (r *nodePingResponse) UnmarshalJSON(data []byte) error {
	type plain nodePingResponse
	return decodeInto(data, (*plain)(r), "agent_count", "node_id", "start_time", "state", "tags", "version", "xkey")
}

type agentSummary struct {
	Name                string    `json:"name"`
	StartTime           time.Time `json:"start_time"`
	State               string    `json:"state"`
	SupportedLifecycles string    `json:"supported_lifecycles"`
	Type                string    `json:"type"`
	Version             string    `json:"version"`
	WorkloadCount       int       `json:"workload_count"`
}

func (r *agentSummary) UnmarshalJSON(data []byte) error {
	type plain agentSummary
	return decodeInto(data, (*plain)(r), "name", "start_time", "state", "supported_lifecycles", "type",
		"version", "workload_count")
}

type nodeAgentSummary struct {
	Health        string       `json:"agent_health"`
	Stoplight     string       `json:"agent_health_stoplight"`
	ID            string       `json:"agent_id"`
	LastHeartbeat time.Time    `json:"agent_last_heartbeat_time"`
	Summary       agentSummary `json:"agent_summary"`
}

func (r *nodeAgentSummary) UnmarshalJSON(data []byte) error {
	type plain nodeAgentSummary
	return decodeInto(data, (*plain)(r), "agent_health", "agent_health_stoplight", "agent_id",
		"agent_last_heartbeat_time", "agent_summary")
}

type nodeInfoResponse struct {
	Agents  []nodeAgentSummary `json:"node_agent_summaries,omitempty"`
	NodeID  string             `json:"node_id"`
	Tags    map[string]string  `json:"tags"`
	Uptime  string             `json:"uptime"`
	Version string             `json:"version"`
	XKey    string             `json:"xkey"`
}

func (r *nodeInfoResponse) UnmarshalJSON(data []byte) error {
	type plain nodeInfoResponse
	if err := decodeInto(data, (*plain)(r), "node_id", "tags", "uptime", "version", "xkey"); err != nil {
		return err
	}
	_, err := time.ParseDuration(r.Uptime)
	return err
}

type lameduckRequest struct {
	Delay string            `json:"delay"`
	Tag   map[string]string `json:"tag,omitempty"`
}

func (r *lameduckRequest) UnmarshalJSON(data []byte) error {
	type plain lameduckRequest
	return decodeInto(data, (*plain)(r), "delay")
}

type lameduckResponse struct {
	Message string `json:"message"`
	Success bool   `json:"success"`
}

func (r *lameduckResponse) UnmarshalJSON(data []byte) error {
	type plain lameduckResponse
	return decodeInto(data, (*plain)(r), "message", "success")
}

type listWorkloadsRequest struct {
	Filter    []string `json:"filter"`
	Namespace string   `json:"namespace"`
}

func (r *listWorkloadsRequest) UnmarshalJSON(data []byte) error {
	type plain listWorkloadsRequest
	return decodeInto(data, (*plain)(r), "filter", "namespace")
}

type workloadSummary struct {
	ID        string            `json:"id"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	Name      string            `json:"name"`
	Namespace string            `json:"namespace,omitempty"`
	Runtime   string            `json:"runtime"`
	StartTime string            `json:"start_time"`
	Tags      map[string]string `json:"tags"`
	Lifecycle string            `json:"workload_lifecycle"`
	State     workloadState     `json:"workload_state"`
	Type      string            `json:"workload_type"`
}

func (r *workloadSummary) UnmarshalJSON(data []byte) error {
	type plain workloadSummary
	return decodeInto(data, (*plain)(r), "id", "name", "runtime", "start_time", "tags", "workload_lifecycle",
		"workload_state", "workload_type")
}

type natsConnectionData struct {
	ConnName string   `json:"conn_name"`
	Servers  []string `json:"nats_servers"`
	JWT      string   `json:"nats_user_jwt"`
	User     string   `json:"nats_user_name"`
	Nkey     string   `json:"nats_user_nkey"`
	Password string   `json:"nats_user_password"`
	Seed     string   `json:"nats_user_seed"`
	TLSCA    string   `json:"tls_ca"`
	TLSCert  string   `json:"tls_cert"`
	TLSFirst bool     `json:"tls_first"`
	TLSKey   string   `json:"tls_key"`
}

func (d *natsConnectionData) UnmarshalJSON(data []byte) error {
	type plain natsConnectionData
	return decodeInto(data, (*plain)(d), "conn_name", "nats_servers", "nats_user_jwt", "nats_user_name",
		"nats_user_nkey", "nats_user_password", "nats_user_seed", "tls_ca", "tls_cert", "tls_first", "tls_key")
}

// connect chooses the way to prove who one is in the order of Go Nex.
func (d *natsConnectionData) connect(name string) (*nats.Conn, error) {
	servers := nats.DefaultURL
	if len(d.Servers) > 0 {
		servers = strings.Join(d.Servers, ",")
	}
	options := []nats.Option{nats.Name(cmp.Or(d.ConnName, name)), nats.MaxReconnects(-1), nats.Timeout(10 * time.Second)}
	switch {
	case d.Seed != "" && d.JWT != "":
		options = append(options, nats.UserJWTAndSeed(d.JWT, d.Seed))
	case d.Seed != "" && d.Nkey != "":
		key, err := nkeys.FromSeed([]byte(d.Seed))
		if err != nil {
			return nil, err
		}
		options = append(options, nats.Nkey(d.Nkey, key.Sign))
	case d.User != "":
		options = append(options, nats.UserInfo(d.User, d.Password))
	}
	return nats.Connect(servers, options...)
}

type registerRemoteResponse struct {
	AssignedID string              `json:"assigned_agent_id"`
	Creds      *natsConnectionData `json:"registration_creds"`
	RespondTo  string              `json:"respond_to"`
}

func (r *registerRemoteResponse) UnmarshalJSON(data []byte) error {
	type plain registerRemoteResponse
	return decodeInto(data, (*plain)(r), "assigned_agent_id", "registration_creds", "respond_to")
}

type registerRequest struct {
	Description  string      `json:"description"`
	MaxWorkloads float64     `json:"max_workloads"`
	Name         string      `json:"name"`
	PublicXKey   string      `json:"public_xkey"`
	Type         string      `json:"register_type"`
	Schema       string      `json:"start_request_schema"`
	Lifecycles   []lifecycle `json:"supported_lifecycles,omitempty"`
	Version      string      `json:"version"`
}

func (r *registerRequest) UnmarshalJSON(data []byte) error {
	type plain registerRequest
	return decodeInto(data, (*plain)(r), "description", "max_workloads", "name", "public_xkey", "register_type",
		"start_request_schema", "version")
}

type registerResponse struct {
	Connection natsConnectionData                   `json:"connection_data"`
	Existing   map[string]agentStartWorkloadRequest `json:"existing_state"`
	Message    string                               `json:"message"`
	NodeID     string                               `json:"node_id"`
	Success    bool                                 `json:"success"`
}

func (r *registerResponse) UnmarshalJSON(data []byte) error {
	type plain registerResponse
	return decodeInto(data, (*plain)(r), "connection_data", "existing_state", "message", "node_id", "success")
}

type agentStartWorkloadRequest struct {
	Request startWorkloadRequest `json:"request"`
	Creds   natsConnectionData   `json:"workload_creds"`
}

func (r *agentStartWorkloadRequest) UnmarshalJSON(data []byte) error {
	type plain agentStartWorkloadRequest
	return decodeInto(data, (*plain)(r), "request", "workload_creds")
}

type agentHeartbeat struct {
	Data    string       `json:"data"`
	Summary agentSummary `json:"summary"`
}

func (h *agentHeartbeat) UnmarshalJSON(data []byte) error {
	type plain agentHeartbeat
	return decodeInto(data, (*plain)(h), "data", "summary")
}
