//! Holds the workspace to the arrows between crates that the architecture allows.

use crate::workspace::{Arrow, Workspace};
use anyhow::bail;
use std::collections::BTreeSet;

/// Which crates of ours a crate may use. The architecture's table, as data.
enum May {
    /// It composes: any crate of the product.
    UseEverything,
    /// These and no other.
    Use(&'static [&'static str]),
}

/// What a nexlet may use: the SDK, and the tools that the work itself needs.
const NEXLET: May = May::Use(&[
    "nexlet",
    "nex-functions",
    "nex-artifact",
    "nex-sandbox",
    "nex-process",
    "nex-nats",
    "nex-protocol",
]);

/// What programs about the product may use: they see it from outside, as a user does.
const OUTSIDE: May = May::Use(&["nex-testkit", "nex-protocol"]);

const TABLE: &[(&str, May)] = &[
    ("nex", May::UseEverything),
    (
        "nex-node",
        May::Use(&[
            "nexlet",
            "nex-process",
            "nex-credentials",
            "nex-nats",
            "nex-schema",
            "nex-protocol",
        ]),
    ),
    ("nexlet-native", NEXLET),
    ("nexlet-js", NEXLET),
    ("nexlet-wasm", NEXLET),
    (
        "nex-functions",
        May::Use(&[
            "nexlet",
            "nex-artifact",
            "nex-process",
            "nex-nats",
            "nex-protocol",
        ]),
    ),
    (
        "nex-server",
        May::Use(&["nex-credentials", "nex-process", "nex-protocol"]),
    ),
    (
        "nex-client",
        May::Use(&["nex-nats", "nex-credentials", "nex-schema", "nex-protocol"]),
    ),
    (
        "nexlet",
        May::Use(&["nex-nats", "nex-credentials", "nex-protocol"]),
    ),
    ("nex-nats", May::Use(&["nex-protocol"])),
    ("nex-credentials", May::Use(&["nex-protocol"])),
    ("nex-protocol", May::Use(&[])),
    ("nex-schema", May::Use(&["nex-protocol"])),
    ("nex-process", May::Use(&[])),
    ("nex-artifact", May::Use(&[])),
    ("nex-sandbox", May::Use(&[])),
    ("nex-testkit", May::Use(&["nex-protocol"])),
    ("echo-service", OUTSIDE),
    (
        "custom-nexlet",
        May::Use(&["nexlet", "nex-nats", "nex-protocol"]),
    ),
    ("nex-system-tests", OUTSIDE),
    // Hundreds of nodes in one process are none that a user could start.
    (
        "nex-benches",
        May::Use(&[
            "nex-node",
            "nex-client",
            "nexlet",
            "nex-credentials",
            "nex-nats",
            "nex-testkit",
            "nex-protocol",
        ]),
    ),
    ("xtask", OUTSIDE),
];

/// Not part of the product; crates of the product use it in their tests alone.
const TEST_ONLY: &str = "nex-testkit";

/// Fails with every arrow that the table does not have.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<()> {
    let wrong = violations(&workspace.members, &workspace.arrows);
    if !wrong.is_empty() {
        bail!("not in the architecture's table:\n  {}", wrong.join("\n  "));
    }
    Ok(())
}

fn violations(names: &BTreeSet<String>, arrows: &[Arrow]) -> Vec<String> {
    let unknown = names.iter().filter(|name| row(name).is_none());
    let unknown = unknown.map(|name| format!("the crate `{name}` has no row"));
    let wrong = arrows.iter().filter(|arrow| !allowed(arrow));
    let wrong = wrong.map(|arrow| format!("`{}` uses `{}`", arrow.from, arrow.to));
    unknown.chain(wrong).collect()
}

fn allowed(arrow: &Arrow) -> bool {
    if arrow.in_tests && arrow.to == TEST_ONLY {
        return true;
    }
    match row(&arrow.from) {
        Some(May::UseEverything) => {
            arrow.to != TEST_ONLY
                && !matches!(row(&arrow.to), Some(May::Use(uses)) if uses.contains(&TEST_ONLY))
        }
        Some(May::Use(uses)) => uses.contains(&arrow.to.as_str()),
        None => false,
    }
}

fn row(name: &str) -> Option<&'static May> {
    TABLE
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, may)| may)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrow(from: &str, to: &str, in_tests: bool) -> Arrow {
        Arrow {
            from: from.to_owned(),
            to: to.to_owned(),
            in_tests,
        }
    }

    #[test]
    fn this_workspace_keeps_to_the_table() {
        check(&Workspace::find().unwrap()).unwrap();
    }

    #[test]
    fn arrows_that_the_table_has_not_are_named() {
        let names = ["nex", "nex-client", "nex-node", "nex-testkit", "xtask"]
            .map(String::from)
            .into();
        let cases = [
            (arrow("nex", "nex-node", false), true),
            (arrow("nex", "nex-testkit", false), false),
            (arrow("nex", "nex-testkit", true), true),
            (arrow("nex", "xtask", false), false),
            (arrow("nex-client", "nex-node", false), false),
            (arrow("nex-client", "nex-node", true), false),
            (arrow("xtask", "nex-client", false), false),
        ];
        for (arrow, fine) in cases {
            let wrong = violations(&names, std::slice::from_ref(&arrow));
            assert_eq!(wrong.is_empty(), fine, "{arrow:?}: {wrong:?}");
        }
    }

    #[test]
    fn a_crate_without_a_row_is_named() {
        let wrong = violations(&["nex", "nex-bloat"].map(String::from).into(), &[]);

        assert_eq!(wrong, ["the crate `nex-bloat` has no row"]);
    }
}
