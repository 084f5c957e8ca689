//! SHA-256, as object stores write it and as our files are named.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use data_encoding::{BASE64URL, BASE64URL_NOPAD, HEXLOWER};
use sha2::{Digest as _, Sha256};

/// What stands before a digest in an object's information.
const PREFIX: &str = "SHA-256=";
/// How much of a file is read at a time.
const BLOCK_BYTES: usize = 256 * 1024;

/// A SHA-256. `Display` is lower-case hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Digest([u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl Digest {
    /// Reads a digest as an object store writes it; Go writes padding, others may not.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix(PREFIX)?.trim_end_matches('=');
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    /// As an object store writes it.
    pub(crate) fn to_object(self) -> String {
        format!("{PREFIX}{}", BASE64URL.encode(&self.0))
    }

    /// Of what was hashed.
    pub(crate) fn of(hash: Sha256) -> Self {
        Self(hash.finalize().into())
    }

    /// Of a file, with its size in bytes. Blocks.
    pub(crate) fn of_file(path: &Path) -> io::Result<(Self, u64)> {
        let mut file = File::open(path)?;
        let mut hash = Sha256::new();
        let mut block = vec![0; BLOCK_BYTES];
        let mut size = 0;
        loop {
            let count = file.read(&mut block)?;
            if count == 0 {
                return Ok((Self::of(hash), size));
            }
            hash.update(&block[..count]);
            size += count as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_written_as_go_does_and_reads_back() {
        let empty = Digest::of(Sha256::new());

        let text = empty.to_object();

        assert_eq!(text, "SHA-256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=");
        assert_eq!(Digest::parse(&text), Some(empty));
        assert_eq!(Digest::parse(text.trim_end_matches('=')), Some(empty));
        assert_eq!(Digest::parse("SHA-256=AAAA"), None);
        assert_eq!(Digest::parse("MD5=AAAA"), None);
    }
}
