//! Where things are in this checkout, as cargo itself says it.

use anyhow::Context as _;
use cargo_metadata::{Metadata, MetadataCommand};
use std::path::{Path, PathBuf};

/// The workspace that this program was built from.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// Cargo's description of the members, without other people's crates.
    pub(crate) metadata: Metadata,
}

impl Workspace {
    /// Asks cargo. `CARGO_TARGET_DIR` and configuration files are thereby respected.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let metadata = MetadataCommand::new()
            .manifest_path(manifest)
            .no_deps()
            .exec()
            .context("failed to read the workspace's metadata")?;
        Ok(Self { metadata })
    }

    /// The root of the checkout.
    pub(crate) fn root(&self) -> &Path {
        self.metadata.workspace_root.as_std_path()
    }

    /// The folder with everything that is built.
    pub(crate) fn target_dir(&self) -> &Path {
        self.metadata.target_directory.as_std_path()
    }

    /// The folder with the executables of a profile.
    pub(crate) fn bin_dir(&self, release: bool) -> PathBuf {
        self.target_dir()
            .join(if release { "release" } else { "debug" })
    }
}
