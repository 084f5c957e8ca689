//! Makes the messages of the flood: the golden ones of `nex-protocol`, spoilt.

use std::fs;

use nex_testkit::workspace_root;
use serde_json::Value;

/// A small generator of random numbers (SplitMix64), the same for the same seed everywhere.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap();
        usize::try_from(self.next() % end).unwrap()
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// Something that a node or a nexlet listens to.
struct Target {
    /// With `{}` where the subscription has a wildcard.
    subject: String,
    /// Messages that belong there.
    samples: Vec<String>,
    /// Whether the node counts it among its requests.
    endpoint: bool,
    /// Whether a message that can be read would end what the test is about.
    deadly: bool,
}

/// Blocks of headers: of other people's, forged, and none at all.
const HEADERS: [&[u8]; 9] = [
    b"NATS/1.0\r\n\r\n",
    b"NATS/1.0\r\nA: one\rtwo\r\n\r\n",
    b"NATS/1.0\r\nA: \xff\xfe\r\n\r\n",
    b"NATS/1.0\r\nno colon\r\n\r\n",
    b"NATS/1.0 503 No Responders\r\n\r\n",
    b"NATS/1.0\r\nNats-Service-Error-Code: 500\r\nNats-Service-Error: forged\r\n\r\n",
    b"NATS/1.0\r\nNex-Node: forged\r\nNex-More: true\r\nagentId: forged\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"\xff",
];

/// Tokens that could stand in a subject; none of them ends the line.
const TOKENS: [&[u8]; 12] = [
    b"x",
    b"default",
    b"system",
    b"0uiY97LTUBRG6sb4yR1to3",
    b"0uiY97LTUBRG6sb4yR1thf",
    b"gr\xc3\xb6\xc3\x9fe",
    b"\xff\xfe",
    b"a\xe2\x80\x83b",
    b"a\x0bb",
    b"$SYS",
    b"native_0uiY97LTUBRG6sb4yR1to3",
    b"%00%0d%0a",
];

/// Values that a field is not.
const VALUES: [&str; 12] = [
    "null",
    "true",
    "0",
    "-1",
    "1e400",
    "-0.0",
    "\"\"",
    "[]",
    "{}",
    "[null]",
    "{\"a\":{}}",
    "18446744073709551616",
];

/// Where no answer may go, and where one may.
const REPLIES: [&str; 6] = [
    "_INBOX.hostile.back",
    "_INBOX.hostile.back",
    "$JS.API.STREAM.PURGE.KV_x",
    "$NEX.FEED.default.logs.w.stdout",
    "a.*.>",
    "gr\u{f6}\u{df}e.\u{2003}",
];

pub(super) struct Maker {
    random: Random,
    targets: Vec<Target>,
    node: String,
    nexlets: Vec<String>,
    for_endpoints: u64,
    /// The subject that is next, where each gets as many as any other.
    turn: Option<usize>,
}

impl Maker {
    pub(super) fn new(random: Random, node: &str, nexlets: &[&str]) -> Self {
        let mut targets = Vec::new();
        for (subject, golden) in [
            ("$NEX.SVC.system.control.PTAGS", "node-ping-request"),
            ("$NEX.SVC.system.control.PING", "node-ping-request"),
            ("$NEX.SVC.system.control.PING.{N}", "node-ping-request"),
            ("$NEX.SVC.system.control.INFO.{N}", "node-info-request"),
            ("$NEX.SVC.system.control.LAMEDUCK.{N}", "lameduck-request"),
            ("$NEX.SVC.system.control.AGENTID.{N}", "nexlet-summary"),
            ("$NEX.SVC.nexus.agent.RREGISTER", "register-remote-request"),
            ("$NEX.SVC.{N}.agent.REGISTER.{}", "register-request"),
            ("$NEX.SVC.{}.control.AUCTION", "auction-request"),
            ("$NEX.SVC.{}.control.UNDEPLOY.{}", "stop-workload-request"),
            ("$NEX.SVC.{}.control.ADEPLOY.{}", "start-workload-request"),
            ("$NEX.SVC.{}.control.CLONE.{}", "clone-workload-request"),
            ("$NEX.SVC.{}.control.WPING", "list-workloads-request"),
        ] {
            targets.push(Target::new(subject, golden, node, true));
        }
        for (subject, golden) in [
            ("$NEX.SVC.{N}.agent.HEARTBEAT.{}", "nexlet-heartbeat"),
            ("$NEX.SVC.system.control.HEARTBEAT.{}", "node-heartbeat"),
            ("$NEX.FEED.{}.events.NODESTOPPED", "event-node-stopped"),
            (
                "$NEX.SVC.{N}.agent.STOPWORKLOAD.{}",
                "stop-workload-request",
            ),
            (
                "$NEX.SVC.{N}.agent.GETWORKLOAD.{}",
                "clone-workload-request",
            ),
            (
                "$NEX.SVC.{N}.agent.QUERYWORKLOADS",
                "list-workloads-request",
            ),
            ("$NEX.SVC.{N}.agent.SETLAMEDUCK", "lameduck-request"),
            ("$NEX.SVC.{N}.agent.PING", "node-ping-request"),
            ("$SRV.INFO.{}", "node-ping-request"),
            ("$SRV.STATS", "node-ping-request"),
        ] {
            targets.push(Target::new(subject, golden, node, false));
        }
        for nexlet in nexlets {
            for (subject, golden) in [
                ("STARTWORKLOAD.{}", "nexlet-start-workload-request"),
                ("PING", "node-ping-request"),
            ] {
                let subject = format!("$NEX.SVC.{{N}}.agent.{nexlet}.{subject}");
                targets.push(Target::new(&subject, golden, node, false));
            }
        }
        Self {
            random,
            targets,
            node: node.to_owned(),
            nexlets: nexlets.iter().map(ToString::to_string).collect(),
            for_endpoints: 0,
            turn: None,
        }
    }

    /// How many of the messages so far were requests to the node.
    pub(super) fn for_endpoints(&self) -> u64 {
        self.for_endpoints
    }

    /// Takes the subjects in turn from now on. Answers how many there are.
    pub(super) fn in_turn(&mut self) -> u64 {
        self.turn = Some(0);
        u64::try_from(self.targets.len()).unwrap()
    }

    fn place(&mut self) -> usize {
        match &mut self.turn {
            Some(turn) => {
                *turn = (*turn + 1) % self.targets.len();
                *turn
            }
            None => self.random.below(self.targets.len()),
        }
    }

    /// The next message, as it goes over the wire.
    pub(super) fn next(&mut self) -> Vec<u8> {
        let place = self.place();
        let mut subject = self.subject(place);
        // Some go to nobody at all.
        let lost = self.random.below(50) == 0;
        if lost {
            subject.extend_from_slice(b".more");
        }
        let mut body = self.body(place);
        let target = &self.targets[place];
        if target.deadly {
            body.push(b'!');
        }
        self.for_endpoints += u64::from(target.endpoint && !lost);
        let reply = self.reply();
        let headers = (self.random.below(5) == 0).then(|| *self.random.of(&HEADERS));

        let mut message = Vec::with_capacity(body.len() + 200);
        message.extend_from_slice(if headers.is_some() { b"HPUB " } else { b"PUB " });
        message.extend_from_slice(&subject);
        message.push(b' ');
        message.extend_from_slice(reply.as_bytes());
        message.push(b' ');
        if let Some(headers) = headers {
            let sizes = format!("{} {}\r\n", headers.len(), headers.len() + body.len());
            message.extend_from_slice(sizes.as_bytes());
            message.extend_from_slice(headers);
        } else {
            message.extend_from_slice(format!("{}\r\n", body.len()).as_bytes());
        }
        message.extend_from_slice(&body);
        message.extend_from_slice(b"\r\n");
        message
    }

    fn subject(&mut self, place: usize) -> Vec<u8> {
        let template = self.targets[place].subject.clone();
        let mut subject = Vec::new();
        for (index, part) in template.split("{}").enumerate() {
            if index > 0 {
                // Who may register under the id of a nexlet that is there is that nexlet.
                let token = self.token(!template.contains("REGISTER"));
                subject.extend_from_slice(&token);
            }
            subject.extend_from_slice(part.as_bytes());
        }
        subject
    }

    fn token(&mut self, real: bool) -> Vec<u8> {
        match self.random.below(20) {
            0 => vec![b'x'; 1 + self.random.below(500)],
            // Other nodes, that nobody has heard of.
            1 => format!("N{}", ["A", "B", "C"][self.random.below(3)].repeat(55)).into_bytes(),
            2 if real => self.random.of(&self.nexlets).clone().into_bytes(),
            _ => self.random.of(&TOKENS).to_vec(),
        }
    }

    fn reply(&mut self) -> String {
        match self.random.below(50) {
            0 => "x".repeat(1 + self.random.below(2500)),
            // An answer there would be an order.
            1 => format!("$NEX.SVC.{}.agent.SETLAMEDUCK", self.node),
            2..20 => String::new(),
            _ => (*self.random.of(&REPLIES)).to_owned(),
        }
    }

    fn body(&mut self, place: usize) -> Vec<u8> {
        let samples = &self.targets[place].samples;
        let sample = self.random.of(samples).clone();
        let mut body = sample.clone().into_bytes();
        match self.random.below(1000) {
            0..150 => {}
            150..300 => body.truncate(self.random.below(body.len() + 1)),
            300..500 => {
                for _ in 0..=self.random.below(8) {
                    let (at, bit) = (self.random.below(body.len()), self.random.below(8));
                    body[at] ^= 1 << bit;
                }
            }
            500..700 => body = self.swapped(&sample),
            700..800 => {
                let at = self.random.below(body.len());
                body.splice(at..at, (0..self.random.below(300)).map(|_| 0xff));
            }
            800..900 => {
                body = (0..self.random.below(300))
                    .map(|_| self.random.byte())
                    .collect()
            }
            900..940 => body = "9".repeat(1 + self.random.below(5000)).into_bytes(),
            940..970 => {
                let key = self.random.of(&["tags", "filter", "metadata", "request"]);
                let depth = 1 + self.random.below(20_000);
                body = format!("{{\"{key}\":{}", "[".repeat(depth)).into_bytes();
            }
            970..995 => {
                // The same keys once more, in another case.
                let upper = sample.to_uppercase();
                let inner = sample.trim_end_matches('}');
                body = format!("{inner},{}", upper.trim_start_matches('{')).into_bytes();
            }
            _ => body.resize(256 * 1024 + self.random.below(3), b' '),
        }
        body
    }

    /// A sample with one value replaced by one of another type.
    fn swapped(&mut self, sample: &str) -> Vec<u8> {
        let value: Value = serde_json::from_str(sample).unwrap();
        let Value::Object(fields) = value else {
            return self.random.of(&VALUES).as_bytes().to_vec();
        };
        let odd = self.random.below(fields.len().max(1));
        let each = fields.iter().enumerate().map(|(index, (key, value))| {
            if index == odd {
                format!("{key:?}:{}", self.random.of(&VALUES))
            } else {
                format!("{key:?}:{value}")
            }
        });
        let each: Vec<String> = each.collect();
        format!("{{{}}}", each.join(",")).into_bytes()
    }
}

impl Target {
    fn new(subject: &str, golden: &str, node: &str, endpoint: bool) -> Self {
        let path = format!("crates/nex-protocol/golden/{golden}.json");
        let text = fs::read_to_string(workspace_root().join(path)).unwrap();
        let golden: Value = serde_json::from_str(&text).unwrap();
        let sent = golden["go"].as_array().into_iter().flatten();
        let sent = sent.map(|one| &one["sent"]);
        let all = [&golden["full"], &golden["least"]].into_iter().chain(sent);
        // A nexlet of a type that the test deploys would be deployed to.
        let texts = all.map(|sample| sample.to_string().replace("\"native\"", "\"ghost\""));
        Self {
            subject: subject.replace("{N}", node),
            samples: texts.collect(),
            endpoint,
            deadly: golden["full"]["delay"].is_string(),
        }
    }
}
