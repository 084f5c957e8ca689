//! The requests that a node answers: subscribes, hands each to its file, encodes the answer.
//!
//! The rules are in the files: decode, check, ask the owner, answer. Requests are worked on
//! concurrently, each kind up to a bound, beyond which a request is refused at once.

mod answer;
mod auction;
mod clone;
mod deploy;
mod lameduck;
mod list;
mod look;
mod register;
mod undeploy;

use std::sync::Arc;

use nex_nats::service::{Endpoint as Subscription, Request, Requests, Service, ServiceError};
use nex_protocol::{MAX_CONTROL_REQUEST_BYTES, Subject, subject::pattern};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{shared::Shared, shutdown::Shutdown};
use answer::{Answer, Refusal};

/// Starts in work at a time. Each waits for its nexlet, so they cost memory only.
const MAX_STARTS: usize = 512;

/// Stops in work at a time; one can wait as long as its caller wants.
const MAX_STOPS: usize = 512;

/// Other requests in work at a time.
const MAX_OTHERS: usize = 1024;

/// The name of the service on the wire, as in Go.
const SERVICE: &str = "nexnode";

/// What can be asked of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    Tags,
    PingAll,
    Ping,
    Info,
    Lameduck,
    NexletIdByName,
    RegisterRemote,
    Register,
    Auction,
    Undeploy,
    Deploy,
    DeployTo,
    Clone,
    List,
}

impl Endpoint {
    /// All, in the order in which Go lists those that it has too.
    const ALL: [Self; 14] = [
        Self::Tags,
        Self::PingAll,
        Self::Ping,
        Self::Info,
        Self::Lameduck,
        Self::NexletIdByName,
        Self::RegisterRemote,
        Self::Register,
        Self::Auction,
        Self::Undeploy,
        Self::Deploy,
        Self::DeployTo,
        Self::Clone,
        Self::List,
    ];

    /// The name in the service's description, as in Go.
    fn name(self) -> &'static str {
        match self {
            Self::Tags => "PingPlacementTags",
            Self::PingAll => "PingNexus",
            Self::Ping => "PingNode",
            Self::Info => "GetNodeInfo",
            Self::Lameduck => "SetLameduck",
            Self::NexletIdByName => "GetAgentIdByName",
            Self::RegisterRemote => "RegisterRemoteAgent",
            Self::Register => "RegisterAgent",
            Self::Auction => "AuctionRequest",
            Self::Undeploy => "StopWorkload",
            Self::Deploy => "AuctionDeployWorkload",
            Self::DeployTo => "AuctionDeployWorkloadToNode",
            Self::Clone => "CloneWorkload",
            Self::List => "NamespacePingRequest",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|endpoint| endpoint.name() == name)
    }

    fn subject(self, shared: &Shared) -> String {
        let node = || shared.id.clone();
        match self {
            Self::Tags => Subject::PlacementTags.to_string(),
            Self::PingAll => Subject::Ping.to_string(),
            Self::Ping => Subject::PingNode(node()).to_string(),
            Self::Info => Subject::NodeInfo(node()).to_string(),
            Self::Lameduck => Subject::Lameduck(node()).to_string(),
            Self::NexletIdByName => Subject::NexletIdByName(node()).to_string(),
            Self::RegisterRemote => Subject::RegisterRemote(shared.nexus.clone()).to_string(),
            Self::Register => pattern::register(&shared.id),
            Self::Auction => pattern::AUCTION.to_owned(),
            Self::Undeploy => pattern::UNDEPLOY.to_owned(),
            Self::Deploy => pattern::DEPLOY.to_owned(),
            Self::DeployTo => pattern::deploy_to(&shared.id),
            Self::Clone => pattern::CLONE.to_owned(),
            Self::List => pattern::LIST_WORKLOADS.to_owned(),
        }
    }
}

/// Subscribes all endpoints; the server knows of them when this returns.
pub(crate) async fn subscribe(shared: &Shared) -> Result<Requests, ServiceError> {
    let wanted = |endpoint: &Endpoint| *endpoint != Endpoint::RegisterRemote || shared.allow_remote;
    let endpoints = Endpoint::ALL.into_iter().filter(wanted);
    let subscriptions = endpoints.map(|endpoint| Subscription {
        name: endpoint.name(),
        subject: endpoint.subject(shared),
    });
    let description = format!("Nex node {}", shared.name);
    Service::builder(&shared.client, SERVICE, &shared.version, &description)
        .queue_group(shared.id.as_str())
        // One node of the nexus takes a remote nexlet; everything else each node hears.
        .queue_group_of(Endpoint::RegisterRemote.name(), shared.nexus.as_str())
        .start(subscriptions.collect())
        .await
}

/// How many requests of each kind may be in work.
#[derive(Debug)]
struct Bounds {
    starts: Arc<Semaphore>,
    stops: Arc<Semaphore>,
    others: Arc<Semaphore>,
}

impl Bounds {
    fn of(&self, endpoint: Endpoint) -> &Arc<Semaphore> {
        match endpoint {
            Endpoint::Deploy | Endpoint::DeployTo => &self.starts,
            Endpoint::Undeploy => &self.stops,
            _ => &self.others,
        }
    }
}

/// Serves until `cancel`; requests that have arrived by then are still served.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    mut requests: Requests,
    shutdown: Shutdown,
    cancel: CancellationToken,
) {
    let bounds = Bounds {
        starts: Arc::new(Semaphore::new(MAX_STARTS)),
        stops: Arc::new(Semaphore::new(MAX_STOPS)),
        others: Arc::new(Semaphore::new(MAX_OTHERS)),
    };
    let mut left = false;
    loop {
        tokio::select! {
            request = requests.next() => match request {
                Some(request) => dispatch(&shared, request, &bounds, &shutdown).await,
                None => break,
            },

            () = cancel.cancelled(), if !left => {
                left = true;
                requests.leave_all().await;
            }
        }
    }
}

async fn dispatch(shared: &Arc<Shared>, request: Request, bounds: &Bounds, shutdown: &Shutdown) {
    let Some(endpoint) = Endpoint::of_name(request.endpoint) else {
        return;
    };
    // Every node hears every deploy of the nexus: those of others take neither task nor place.
    if endpoint == Endpoint::Deploy && !deploy::is_ours(shared, request.subject()) {
        return;
    }
    // Never waited for: one slow kind of request must not keep the others from being read.
    let Ok(permit) = Arc::clone(bounds.of(endpoint)).try_acquire_owned() else {
        let busy = Refusal::busy("the node works on too many requests");
        answer::send(shared, &request, Err(in_form(endpoint, busy))).await;
        return;
    };
    let shared = Arc::clone(shared);
    let span = tracing::debug_span!("request", subject = request.subject());
    shutdown.spawn(span, |_finishes_in_its_own_time| async move {
        let answer = handle(&shared, endpoint, &request).await;
        let answer = answer.map_err(|refusal| in_form(endpoint, refusal));
        answer::send(&shared, &request, answer).await;
        drop(permit);
    });
}

/// A refusal as the endpoint's callers read it.
fn in_form(endpoint: Endpoint, refusal: Refusal) -> Refusal {
    match endpoint {
        Endpoint::Register => register::refusal(refusal),
        _ => refusal,
    }
}

async fn handle(
    shared: &Arc<Shared>,
    endpoint: Endpoint,
    request: &Request,
) -> Result<Answer, Refusal> {
    let body = request.payload();
    if body.len() > MAX_CONTROL_REQUEST_BYTES {
        return Err(Refusal::bad_request(format!(
            "the request has {} bytes: a control request has at most {MAX_CONTROL_REQUEST_BYTES}",
            body.len()
        )));
    }
    let subject = Subject::parse(request.subject());
    match (endpoint, subject) {
        (Endpoint::Tags, _) => look::tags(shared),
        (Endpoint::PingAll | Endpoint::Ping, _) => look::ping(shared, body),
        (Endpoint::Info, _) => look::info(shared),
        (Endpoint::NexletIdByName, _) => look::nexlet_id(shared, body),
        (Endpoint::Lameduck, _) => lameduck::set(shared, body).await,
        (Endpoint::RegisterRemote, _) => register::remote(shared, body),
        (Endpoint::Register, Some(Subject::Register(_, id))) => {
            register::nexlet(shared, id, body).await
        }
        (Endpoint::Auction, Some(Subject::Auction(_))) => auction::bid(shared, body),
        (Endpoint::Deploy, Some(Subject::Deploy(namespace, bid)))
        | (Endpoint::DeployTo, Some(Subject::DeployTo(namespace, bid, _))) => {
            deploy::start(shared, namespace, bid, body).await
        }
        (Endpoint::Undeploy, Some(Subject::Undeploy(namespace, id))) => {
            undeploy::stop(shared, namespace, id, body).await
        }
        (Endpoint::Clone, Some(Subject::Clone(namespace, id))) => {
            clone::start_request(shared, namespace, id, body).await
        }
        (Endpoint::List, Some(Subject::ListWorkloads(namespace))) => {
            list::workloads(shared, namespace, body).await
        }
        // The subscription matches, so a token of the subject is no name or id of anybody.
        (Endpoint::Deploy | Endpoint::Clone, _) => Ok(Answer::Silence),
        _ => Err(Refusal::bad_request(format!(
            "invalid subject `{}`",
            request.subject()
        ))),
    }
}
