//! Where things are in this checkout, and who uses whom, as cargo itself says it.

use crate::shell::read;
use anyhow::Context as _;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// The workspace that this program was built from.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target_dir: PathBuf,
    /// The names of the member crates.
    pub(crate) members: BTreeSet<String>,
    /// Each use of one member by another.
    pub(crate) arrows: Vec<Arrow>,
}

/// One crate of ours using another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrow {
    /// Who uses.
    pub(crate) from: String,
    /// Who is used.
    pub(crate) to: String,
    /// Only when `from` is tested.
    pub(crate) in_tests: bool,
}

impl Workspace {
    /// Asks cargo. `CARGO_TARGET_DIR` and configuration files are thereby respected.
    pub(crate) fn find() -> anyhow::Result<Self> {
        // Read as plain JSON: a typed reader would turn on a feature of serde_json for the whole
        // workspace, and so have everything built a second time between demo and test.
        let text = read(
            Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
                .args(["metadata", "--no-deps", "--format-version", "1"])
                .current_dir(env!("CARGO_MANIFEST_DIR")),
        )
        .context("failed to read the workspace's metadata")?;
        let metadata = serde_json::from_str(&text).context("`cargo metadata` wrote no JSON")?;
        Self::parse(&metadata).context("`cargo metadata` left out what is needed")
    }

    fn parse(metadata: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let packages = metadata["packages"].as_array()?;
        let members = packages
            .iter()
            .map(|package| text(&package["name"]))
            .collect::<Option<BTreeSet<_>>>()?;
        let mut arrows = Vec::new();
        for package in packages {
            for dependency in package["dependencies"].as_array()? {
                let to = text(&dependency["name"])?;
                if members.contains(&to) {
                    let in_tests = dependency["kind"] == "dev";
                    arrows.push(Arrow {
                        from: text(&package["name"])?,
                        to,
                        in_tests,
                    });
                }
            }
        }
        Some(Self {
            root: text(&metadata["workspace_root"])?.into(),
            target_dir: text(&metadata["target_directory"])?.into(),
            members,
            arrows,
        })
    }

    /// The root of the checkout.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder with everything that is built.
    pub(crate) fn target_dir(&self) -> &Path {
        &self.target_dir
    }

    /// The folder with the executables of a profile.
    pub(crate) fn bin_dir(&self, release: bool) -> PathBuf {
        self.target_dir
            .join(if release { "release" } else { "debug" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn uses_within_the_workspace_are_arrows() {
        let metadata = json!({
            "workspace_root": "/w",
            "target_directory": "/t",
            "packages": [
                { "name": "a", "dependencies": [
                    { "name": "b", "kind": null },
                    { "name": "c", "kind": "dev" },
                    { "name": "serde", "kind": null },
                ]},
                { "name": "b", "dependencies": [{ "name": "c", "kind": "build" }]},
                { "name": "c", "dependencies": [] },
            ],
        });

        let workspace = Workspace::parse(&metadata).unwrap();

        let arrow = |from: &str, to: &str, in_tests| Arrow {
            from: from.into(),
            to: to.into(),
            in_tests,
        };
        assert_eq!(
            workspace.arrows,
            [
                arrow("a", "b", false),
                arrow("a", "c", true),
                arrow("b", "c", false)
            ]
        );
        assert_eq!(workspace.bin_dir(true), Path::new("/t/release"));
    }

    #[test]
    fn this_workspace_has_the_crate_that_runs_this_test() {
        let workspace = Workspace::find().unwrap();

        assert!(workspace.members.contains(env!("CARGO_PKG_NAME")));
        assert!(workspace.root().join("xtask/src/workspace.rs").is_file());
    }
}
