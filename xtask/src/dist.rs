//! One file to hand out: `nex`, stripped, with nats-server inside.
//!
//! The server is appended to the executable, which no loader minds:
//! ```text
//! [executable][gzip of nats-server][SHA-256 of nats-server, 32 bytes][length of the gzip, u64 LE]["NEXNATS1"]
//! ```
//! `nex-server` reads it from the end.

use crate::{
    setup,
    shell::{cargo, read, run as run_shown, say},
    workspace::Workspace,
};
use anyhow::{Context as _, ensure};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest as _, Sha256};
use std::{env::consts::EXE_SUFFIX, fs, io::Write as _, process::Command};

/// The last bytes of an executable that carries a nats-server.
const MAGIC: &[u8; 8] = b"NEXNATS1";

/// Builds `target/dist/nex`.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    setup::run(workspace)?;
    let server = setup::server_path(workspace, true);
    let server = fs::read(&server)
        .with_context(|| format!("failed to read the server to carry, {}", server.display()))?;
    run_shown(cargo(workspace).args(["build", "--release", "-p", "nex"]))?;

    let name = format!("nex{EXE_SUFFIX}");
    let dir = workspace.target_dir().join("dist");
    fs::create_dir_all(&dir)?;
    let place = dir.join(&name);
    let new = tempfile::Builder::new()
        .prefix(".nex-")
        .tempfile_in(&dir)?
        .into_temp_path();
    // A copy, not a link: what is stripped and appended to must not be the build's own file.
    fs::copy(workspace.bin_dir(true).join(&name), &new)?;
    read(Command::new("strip").arg(&new))
        .context("failed to strip; on Debian and Ubuntu type: apt-get install binutils")?;
    let stripped_bytes = fs::metadata(&new)?.len();
    fs::OpenOptions::new()
        .append(true)
        .open(&new)?
        .write_all(&appendix(&server)?)?;
    new.persist(&place)?;

    let version = read(Command::new(&place).arg("--version"))?;
    ensure!(
        !version.trim().is_empty(),
        "the finished binary does not tell its version"
    );
    say(&format!(
        "{}: {}, {} of it nex, the rest nats-server {}",
        place.display(),
        megabytes(fs::metadata(&place)?.len()),
        megabytes(stripped_bytes),
        setup::VERSION,
    ));
    Ok(())
}

/// What is appended to the executable.
fn appendix(server: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(server)?;
    let mut bytes = encoder.finish()?;
    let gzip_bytes = u64::try_from(bytes.len())?;
    bytes.extend_from_slice(&Sha256::digest(server));
    bytes.extend_from_slice(&gzip_bytes.to_le_bytes());
    bytes.extend_from_slice(MAGIC);
    Ok(bytes)
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read as _;

    #[test]
    fn the_server_can_be_read_from_the_end() {
        let server = b"the server ".repeat(1000);
        let file = [b"the executable".as_slice(), &appendix(&server).unwrap()].concat();

        let (rest, magic) = file.split_last_chunk::<8>().unwrap();
        let (rest, length) = rest.split_last_chunk::<8>().unwrap();
        let (rest, digest) = rest.split_last_chunk::<32>().unwrap();
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
        let (executable, gzip) = rest.split_at(rest.len() - length);
        let mut unpacked = Vec::new();
        GzDecoder::new(gzip).read_to_end(&mut unpacked).unwrap();

        assert_eq!(magic, MAGIC);
        assert_eq!(executable, b"the executable");
        assert_eq!(unpacked, server);
        assert_eq!(digest.as_slice(), Sha256::digest(&server).as_slice());
    }

    #[test]
    fn sizes_are_rounded_down_to_a_tenth() {
        assert_eq!(megabytes(18_848_283), "18.8 MB");
    }
}
