//! The nats-server that a release binary carries behind its own end.
//!
//! ```text
//! <executable> <gzip of nats-server> <trailer>
//! trailer = sha256 of nats-server (32 bytes), length of the gzip (u64, little endian), "NEXNATS1"
//! ```
//! It is unpacked once, by a short-lived child of the same binary, so that the memory which that
//! takes is not the node's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};

/// The first argument with which the binary unpacks its nats-server; the second is the destination.
pub const UNPACK_ARG: &str = "unpack-server";

const MAGIC: &[u8; 8] = b"NEXNATS1";
const TRAILER_BYTES: u64 = 32 + 8 + 8;

/// How many characters of the hash are in the name of the unpacked file.
const NAME_HASH_CHARS: usize = 16;

/// How much is unpacked at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// Why the carried nats-server could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The executable cannot be read.
    #[error("failed to read the nats-server in `{}`", path.display())]
    Read {
        /// The executable.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The executable carries none.
    #[error("`{}` carries no nats-server", path.display())]
    None {
        /// The executable.
        path: PathBuf,
    },
    /// What came out is not what was put in.
    #[error("the nats-server in `{}` is damaged: its SHA-256 is another", path.display())]
    Damaged {
        /// The executable.
        path: PathBuf,
    },
    /// The destination cannot be written.
    #[error("failed to write `{}`", path.display())]
    Write {
        /// The destination.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// What an executable carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Carried {
    sha256: [u8; 32],
    payload_start: u64,
    payload_bytes: u64,
}

impl Carried {
    /// Looks at the end of an executable; none where it carries nothing.
    pub(crate) fn find(exe: &Path) -> io::Result<Option<Self>> {
        let mut file = File::open(exe)?;
        let file_bytes = file.metadata()?.len();
        let Some(payload_end) = file_bytes.checked_sub(TRAILER_BYTES) else {
            return Ok(None);
        };
        file.seek(SeekFrom::Start(payload_end))?;
        let (mut sha256, mut length, mut magic) = ([0; 32], [0; 8], [0; 8]);
        file.read_exact(&mut sha256)?;
        file.read_exact(&mut length)?;
        file.read_exact(&mut magic)?;
        if &magic != MAGIC {
            return Ok(None);
        }
        let payload_bytes = u64::from_le_bytes(length);
        Ok(payload_end
            .checked_sub(payload_bytes)
            .map(|payload_start| Self {
                sha256,
                payload_start,
                payload_bytes,
            }))
    }

    /// The name of the unpacked file. Another nats-server has another.
    pub(crate) fn file_name(&self) -> String {
        let hash = HEXLOWER.encode(&self.sha256);
        format!("nats-server-{}", &hash[..NAME_HASH_CHARS])
    }
}

/// Unpacks the nats-server that `exe` carries to `dest`, mode 0700: whole and checked, or not at
/// all. For the binary, when its first argument is [`UNPACK_ARG`].
///
/// # Errors
/// There is none, it is damaged, or `dest` cannot be written.
pub fn unpack_main(exe: &Path, dest: &Path) -> Result<(), UnpackError> {
    let read = |source| UnpackError::Read {
        path: exe.to_owned(),
        source,
    };
    let write = |source| UnpackError::Write {
        path: dest.to_owned(),
        source,
    };
    let carried = Carried::find(exe)
        .map_err(read)?
        .ok_or_else(|| UnpackError::None {
            path: exe.to_owned(),
        })?;
    let mut payload = File::open(exe).map_err(read)?;
    payload
        .seek(SeekFrom::Start(carried.payload_start))
        .map_err(read)?;
    let mut server = GzDecoder::new(BufReader::new(payload.take(carried.payload_bytes)));

    // Two that unpack at once each have a file of their own; the last name wins, over the same bytes.
    let mut temporary = dest.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = Temporary(temporary.into());
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o700)
        .open(&temporary.0)
        .map_err(write)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = match server.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(read(error)),
        };
        hasher.update(&chunk[..count]);
        file.write_all(&chunk[..count]).map_err(write)?;
    }
    if hasher.finalize()[..] != carried.sha256 {
        return Err(UnpackError::Damaged {
            path: exe.to_owned(),
        });
    }
    file.sync_all().map_err(write)?;
    drop(file);
    fs::rename(&temporary.0, dest).map_err(write)
}

/// A file that is gone afterwards, unless it got another name.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::os::unix::fs::PermissionsExt;

    const SERVER: &[u8] = b"#!/bin/sh\necho nats-server: v2.15.1\n";

    /// An executable that carries [`SERVER`], with one byte of its hash changed.
    fn carrier(flip: u8) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(SERVER).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut exe = b"\x7fELF and so on".to_vec();
        exe.extend_from_slice(&gzip);
        let mut sha256 = Sha256::digest(SERVER).to_vec();
        sha256[5] ^= flip;
        exe.extend_from_slice(&sha256);
        exe.extend_from_slice(&u64::try_from(gzip.len()).unwrap().to_le_bytes());
        exe.extend_from_slice(MAGIC);
        exe
    }

    #[test]
    fn what_is_carried_comes_out_executable() {
        let folder = tempfile::tempdir().unwrap();
        let (exe, dest) = (folder.path().join("nex"), folder.path().join("server"));
        fs::write(&exe, carrier(0)).unwrap();

        unpack_main(&exe, &dest).unwrap();

        assert_eq!(fs::read(&dest).unwrap(), SERVER);
        let mode = fs::metadata(&dest).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let name = Carried::find(&exe).unwrap().unwrap().file_name();
        assert_eq!(name.len(), "nats-server-".len() + NAME_HASH_CHARS);
    }

    #[test]
    fn what_is_damaged_does_not_come_out() {
        let folder = tempfile::tempdir().unwrap();
        let (exe, dest) = (folder.path().join("nex"), folder.path().join("server"));
        fs::write(&exe, carrier(1)).unwrap();

        let error = unpack_main(&exe, &dest).unwrap_err();

        assert!(matches!(error, UnpackError::Damaged { .. }), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_binary_without_one_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let exe = folder.path().join("nex");
        let mut too_long = carrier(0);
        let at = too_long.len() - 16;
        too_long[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());

        for bytes in [&b""[..], b"short", &[7; 4096], &too_long] {
            fs::write(&exe, bytes).unwrap();
            assert_eq!(Carried::find(&exe).unwrap(), None);
            let error = unpack_main(&exe, &folder.path().join("server")).unwrap_err();
            assert!(matches!(error, UnpackError::None { .. }), "{error}");
        }
    }
}
