//! The checks. Each has a nexlet that is registered and beats `running`.

pub(super) mod arrival;
pub(super) mod trouble;
pub(super) mod workloads;

use super::node::{NEXLET, agent, start};

type Checked = anyhow::Result<()>;

/// Lifecycles that decoders of Go know; they take no others.
const LIFECYCLES: [&str; 3] = ["service", "job", "function"];

/// The endpoints by name, with a subject for each that does no harm.
fn endpoints() -> [(&'static str, String); 7] {
    [
        ("StartWorkload", start("none")),
        ("StopWorkload", agent("STOPWORKLOAD.none")),
        ("GetWorkload", agent("GETWORKLOAD.none")),
        ("QueryWorkloads", agent("QUERYWORKLOADS")),
        ("PingAgent", agent(&format!("{NEXLET}.PING"))),
        ("PingAllAgents", agent("PING")),
        ("SetLameduck", agent("SETLAMEDUCK")),
    ]
}

/// What an endpoint listens to: the subject of a workload's request with a wildcard.
fn pattern(subject: &str) -> String {
    let found = subject.strip_suffix(".none");
    found.map_or_else(|| subject.to_owned(), |before| format!("{before}.*"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_listen_to_what_they_are_sent() {
        let [(_, start), (_, stop), ..] = endpoints();
        assert!(pattern(&start).ends_with(".STARTWORKLOAD.*"));
        assert!(pattern(&stop).ends_with(".agent.STOPWORKLOAD.*"));
        assert_eq!(pattern("a.PING"), "a.PING");
    }
}
