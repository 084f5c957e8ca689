//! The floor: responders that answer fixed bytes, and clients that only count answers.

use anyhow::{Context as _, bail};
use async_nats::{Client, Message};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream::select_all};
use nex_protocol::{
    BidId, Lifecycle, Namespace, Subject, Tags, WorkloadId, WorkloadState, WorkloadSummary,
    control::{Bid, Load},
    ids::unique,
    subject::pattern,
    workload::StartWorkloadResponse,
};
use nex_testkit::{Home, Output};
use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    IN_FLIGHT, Size,
    child::{SERVE, ready, told_to_end},
    figure::{Scale, median, percentile},
    load::{block_on, in_flight, one_at_a_time},
};

/// How long all answers to one question may take before the measurement is given up.
const LIMIT: Duration = Duration::from_secs(30);

/// The largest answer to a list, in bytes: about what nodes put into one message.
const PIECE_BYTES: usize = 500_000;

/// What the floor is the floor of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) responders: usize,
    /// Of each.
    pub(super) workloads: usize,
}

impl Shape {
    pub(super) fn args(self, url: &str) -> Vec<String> {
        let numbers = [self.responders.to_string(), self.workloads.to_string()];
        [vec![url.to_owned()], numbers.to_vec()].concat()
    }

    /// The list of one responder, in messages.
    fn lists(self) -> anyhow::Result<Vec<Bytes>> {
        let summary = summary();
        let each = serde_json::to_vec(&summary)?.len() + 1;
        let all = vec![summary; self.workloads];
        let pieces = all.chunks((PIECE_BYTES / each).max(1));
        let lists = pieces.map(|piece| Ok(serde_json::to_vec(piece)?.into()));
        lists.collect()
    }
}

/// The figures of the floor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floor {
    pub(super) node_list: Scale,
    pub(super) workload_list: Scale,
    pub(super) auction_p50: Scale,
    pub(super) auction_p99: Scale,
    pub(super) single_starts: Scale,
    pub(super) parallel_starts: Scale,
}

/// Measures the floor, from this process and from processes that ask once.
pub(super) fn measure(url: &str, size: Size, shape: Shape) -> anyhow::Result<Floor> {
    let home = Home::new();
    let (ping, list) = (Subject::Ping, list_subject());
    let pieces = shape.lists()?.len();
    let node_list = gather_often(&home, url, &ping, shape.responders, size.runs)?;
    let workload_list = gather_often(&home, url, &list, shape.responders * pieces, size.runs)?;
    block_on(async {
        let asker = Asker::connect(url, shape.responders).await?;
        one_at_a_time(size.auctions / 10, || asker.auction_only()).await?;
        let auctions = one_at_a_time(size.auctions, || asker.auction_only()).await?;
        let singles = one_at_a_time(size.single_starts, || asker.start()).await?;
        let starting = asker.clone();
        let start = move || {
            let asker = starting.clone();
            async move { asker.start().await }
        };
        let parallel = in_flight(size.parallel_starts, IN_FLIGHT, start).await?;
        Ok(Floor {
            node_list: Scale::time(node_list),
            workload_list: Scale::time(workload_list),
            auction_p50: Scale::time(median(&auctions)),
            auction_p99: Scale::time(percentile(&auctions, 99)),
            single_starts: Scale::rate(singles.len(), singles.iter().sum()),
            parallel_starts: Scale::rate(size.parallel_starts, parallel),
        })
    })
}

/// The floor of one node with all workloads.
#[derive(Clone, Copy, Debug)]
pub(super) struct OneFloor {
    pub(super) list: Scale,
    pub(super) starts: Scale,
}

/// Measures the floor of one node.
pub(super) fn measure_one(url: &str, size: Size, shape: Shape) -> anyhow::Result<OneFloor> {
    let pieces = shape.lists()?.len();
    block_on(async {
        let asker = Asker::connect(url, shape.responders).await?;
        let list = || async {
            let asked = ask_all(&asker.client, &list_subject(), "{}".into(), pieces).await;
            asked.map(drop)
        };
        let lists = one_at_a_time(size.runs, list).await?;
        let starting = asker.clone();
        let start = move || {
            let asker = starting.clone();
            async move { asker.start().await }
        };
        let starts = in_flight(size.parallel_starts, IN_FLIGHT, start).await?;
        Ok(OneFloor {
            list: Scale::time(median(&lists)),
            starts: Scale::rate(size.parallel_starts, starts),
        })
    })
}

/// The wall time of a process that connects, asks once, counts the answers and exits.
fn gather_often(
    home: &Home,
    url: &str,
    subject: &Subject,
    answers: usize,
    runs: usize,
) -> anyhow::Result<Duration> {
    let once = || {
        let mut command = home.command(env::current_exe()?);
        let (subject, answers) = (subject.to_string(), answers.to_string());
        command.args([SERVE, "gather", url, &subject, &answers]);
        let output: Output = home.run(&mut command)?;
        if output.code != 0 {
            bail!("the bare client failed: {output}");
        }
        Ok(output.took)
    };
    once()?;
    let times: Vec<Duration> = (0..runs).map(|_| once()).collect::<anyhow::Result<_>>()?;
    Ok(median(&times))
}

/// What such a process does.
pub(super) fn gather_once(args: &[&str]) -> anyhow::Result<()> {
    let [url, subject, answers] = args else {
        bail!("the bare client wants a url, a subject and a number");
    };
    let subject = Subject::parse(subject).context("no subject of ours")?;
    let answers = answers.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = async_nats::connect(*url).await?;
        ask_all(&client, &subject, "{}".into(), answers).await?;
        Ok(())
    })
}

/// Asks all, and waits for so many answers.
async fn ask_all(
    client: &Client,
    subject: &Subject,
    body: Bytes,
    answers: usize,
) -> anyhow::Result<Vec<Message>> {
    let inbox = client.new_inbox();
    let heard = client.subscribe(inbox.clone()).await?;
    client
        .publish_with_reply(subject.to_string(), inbox, body)
        .await?;
    let all: Vec<Message> = tokio::time::timeout(LIMIT, heard.take(answers).collect())
        .await
        .with_context(|| format!("not {answers} answers on `{subject}`"))?;
    Ok(all)
}

/// The floor's client.
#[derive(Clone, Debug)]
struct Asker {
    client: Client,
    responders: usize,
    asked: Arc<AtomicUsize>,
}

impl Asker {
    async fn connect(url: &str, responders: usize) -> anyhow::Result<Self> {
        Ok(Self {
            client: async_nats::connect(url).await?,
            responders,
            asked: Arc::default(),
        })
    }

    async fn auction(&self) -> anyhow::Result<Vec<Message>> {
        let subject = Subject::Auction(Namespace::default_tenant());
        ask_all(&self.client, &subject, "{}".into(), self.responders).await
    }

    async fn auction_only(&self) -> anyhow::Result<()> {
        self.auction().await.map(drop)
    }

    /// An auction, and a deploy with one of the bidders, each in its turn.
    async fn start(&self) -> anyhow::Result<()> {
        let bids = self.auction().await?;
        let turn = self.asked.fetch_add(1, Ordering::Relaxed) % bids.len();
        let bid: Bid = serde_json::from_slice(&bids[turn].payload)?;
        let subject = Subject::Deploy(Namespace::default_tenant(), bid.bidder_id).to_string();
        self.client.request(subject, "{}".into()).await?;
        Ok(())
    }
}

fn list_subject() -> Subject {
    Subject::ListWorkloads(Namespace::system())
}

/// What a child does that is the floor.
pub(super) fn serve(args: &[&str]) -> anyhow::Result<()> {
    let [url, responders, workloads] = args else {
        bail!("bare responders want a url and two numbers");
    };
    let shape = Shape {
        responders: responders.parse()?,
        workloads: workloads.parse()?,
    };
    let lists = Arc::new(shape.lists()?);
    block_on(async {
        for number in 0..shape.responders {
            let responder = Responder::connect(url, number, Arc::clone(&lists)).await?;
            tokio::spawn(responder.answer());
        }
        ready();
        told_to_end().await;
        Ok(())
    })
}

struct Responder {
    client: Client,
    requests: futures_util::stream::SelectAll<async_nats::Subscriber>,
    /// The subject's end by which it knows its own bids.
    own: String,
    bid: Bytes,
    started: Bytes,
    pong: Bytes,
    lists: Arc<Vec<Bytes>>,
}

impl Responder {
    async fn connect(url: &str, number: usize, lists: Arc<Vec<Bytes>>) -> anyhow::Result<Self> {
        let client = async_nats::connect(url).await?;
        let mut requests = Vec::new();
        for subject in [
            pattern::AUCTION.to_owned(),
            pattern::DEPLOY.to_owned(),
            pattern::LIST_WORKLOADS.to_owned(),
            Subject::Ping.to_string(),
        ] {
            requests.push(client.subscribe(subject).await?);
        }
        nex_nats::barrier(&client).await?;
        let id = BidId::new(format!("bare{number}"))?;
        let started = StartWorkloadResponse {
            id: WorkloadId::new(unique())?,
            name: "noop".to_owned(),
        };
        Ok(Self {
            client,
            requests: select_all(requests),
            own: format!(".{id}"),
            bid: serde_json::to_vec(&bid(id))?.into(),
            started: serde_json::to_vec(&started)?.into(),
            // About as long as a node says who it is.
            pong: vec![b'x'; 400].into(),
            lists,
        })
    }

    async fn answer(mut self) {
        while let Some(request) = self.requests.next().await {
            let Some(reply) = request.reply else { continue };
            let subject = request.subject.as_str();
            let answers: &[Bytes] = if subject.ends_with(".AUCTION") {
                std::slice::from_ref(&self.bid)
            } else if subject.ends_with(".WPING") {
                &self.lists
            } else if subject.ends_with(".PING") {
                std::slice::from_ref(&self.pong)
            } else if subject.ends_with(&self.own) {
                std::slice::from_ref(&self.started)
            } else {
                &[]
            };
            for answer in answers {
                if self
                    .client
                    .publish(reply.clone(), answer.clone())
                    .await
                    .is_err()
                {
                    return;
                }
            }
        }
    }
}

fn bid(id: BidId) -> Bid {
    Bid {
        bidder_id: id,
        start_request_schema: r#"{"type":"object"}"#.to_owned(),
        supported_lifecycles: vec![Lifecycle::Service],
        xkey: String::new(),
        load: Some(Load {
            workloads: 1,
            ..Load::default()
        }),
        node_id: None,
    }
}

fn summary() -> WorkloadSummary {
    WorkloadSummary {
        id: WorkloadId::new("0123456789abcdefghijkl").expect("letters and digits are an id"),
        metadata: Tags::new(),
        name: "noop".to_owned(),
        namespace: Some(Namespace::default_tenant()),
        runtime: "--".to_owned(),
        start_time: "2026-01-01T00:00:00Z".to_owned(),
        tags: Tags::new(),
        workload_lifecycle: "service".to_owned(),
        workload_state: WorkloadState::Running,
        workload_type: super::noop::TYPE.to_owned(),
    }
}
