//! Compiled modules on disk, so that starting a function again does not compile it again.
//!
//! ```text
//!   compiled/            0700, ours
//!     secret             what only this node knows
//!     <engine>/          wasmtime's version, its settings, the processor's features
//!       <module>.code    by the digest of the module
//!       <module>.seal    secret, digest of the module and digest of the code, hashed
//! ```
//!
//! Compiled code is machine code: whoever can write it can do what this process can. So a file is run
//! only if its folder and it belong to us and nobody else can write to them, and if its seal is the
//! one that this node has put on it. A file that is damaged, or that lies under another's name, is
//! compiled anew.

mod load;

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    hash::{Hash as _, Hasher},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use sha2::{Digest as _, Sha256};
use tracing::warn;
use wasmtime::{Engine, Module};

use crate::limits::MAX_COMPILED_BYTES;

/// How the names of files begin that are being written.
const NEW: &str = "new-";

/// The digest of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    pub(crate) fn of(wasm: &[u8]) -> Self {
        Self(Sha256::digest(wasm).into())
    }

    fn hex(&self) -> String {
        hex(&self.0)
    }
}

/// Compiled modules of one node, for one wasmtime.
#[derive(Debug)]
pub(crate) struct Compiled {
    folder: PathBuf,
    secret: [u8; 32],
}

impl Compiled {
    /// Opens the folder, or makes it. What other versions of wasmtime have compiled is removed.
    pub(crate) fn open(root: &Path, engine: &Engine) -> io::Result<Self> {
        make(root)?;
        let ours = hex(&engine_digest(engine)[..16]);
        for entry in fs::read_dir(root)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && entry.file_name() != *ours {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let folder = root.join(ours);
        make(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            // Somebody was killed while writing it.
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(NEW.as_bytes())
            {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self {
            folder,
            secret: secret(&root.join("secret"))?,
        })
    }

    /// The module, if it is here and whole.
    pub(crate) fn get(&self, engine: &Engine, digest: &Digest) -> Option<Module> {
        match self.read(engine, digest) {
            Ok(module) => Some(module),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    let module = digest.hex();
                    warn!(%module, %error, "a compiled module is not used");
                }
                None
            }
        }
    }

    fn read(&self, engine: &Engine, digest: &Digest) -> io::Result<Module> {
        let mut code = open_ours(&self.path(digest, "code"))?;
        let mut seal = Vec::new();
        open_ours(&self.path(digest, "seal"))?.read_to_end(&mut seal)?;
        if seal != self.seal(digest, &hash_of(&mut code)?) {
            return Err(io::Error::other("its seal is broken"));
        }
        // Which were used last is known by that.
        code.set_modified(SystemTime::now())?;
        load::load(engine, code).map_err(|error| io::Error::other(format!("{error:#}")))
    }

    /// Keeps a module.
    pub(crate) fn put(&self, digest: &Digest, code: &[u8]) -> io::Result<()> {
        let seal = self.seal(digest, &Sha256::digest(code).into());
        // Without its seal the code is not used, so the order is of no matter.
        self.write(digest, "code", code)?;
        self.write(digest, "seal", &seal)?;
        self.make_room(MAX_COMPILED_BYTES)
    }

    fn write(&self, digest: &Digest, extension: &str, bytes: &[u8]) -> io::Result<()> {
        // Threads that write the same file at a time write the same content.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let path = self.folder.join(format!("{NEW}{process}-{number}"));
        let written =
            write_new(&path, bytes).and_then(|()| fs::rename(&path, self.path(digest, extension)));
        if written.is_err() {
            // The first error is the one to tell.
            fs::remove_file(&path).ok();
        }
        written
    }

    /// Removes what was not used for the longest time, until the rest has at most `bytes`.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut codes = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|is| is == "code") {
                let metadata = entry.metadata()?;
                codes.push((metadata.modified()?, metadata.len(), entry.path()));
            }
        }
        let mut total: u64 = codes.iter().map(|(_, bytes, _)| bytes).sum();
        codes.sort();
        for (_, len, path) in codes {
            if total <= bytes {
                break;
            }
            fs::remove_file(&path)?;
            fs::remove_file(path.with_extension("seal"))?;
            total -= len;
        }
        Ok(())
    }

    fn path(&self, digest: &Digest, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", digest.hex()))
    }

    /// All three are of a fixed length, so that no other module and code have the same.
    fn seal(&self, digest: &Digest, code: &[u8; 32]) -> [u8; 32] {
        let mut seal = Sha256::new();
        seal.update(self.secret);
        seal.update(digest.0);
        seal.update(code);
        seal.finalize().into()
    }
}

/// What compiled code depends on but for the module.
fn engine_digest(engine: &Engine) -> [u8; 32] {
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            // Nobody asks: the whole digest is taken.
            0
        }
    }
    let mut sha = Sha(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut sha);
    sha.0.finalize().into()
}

fn hash_of(file: &mut File) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut block = vec![0; 64 * 1024];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hash.finalize().into()),
            count => hash.update(&block[..count]),
        }
    }
}

/// What this node puts into its seals; made when it is asked for first.
fn secret(path: &Path) -> io::Result<[u8; 32]> {
    let mut secret = [0; 32];
    match open_ours(path) {
        Ok(mut file) => {
            if file.metadata()?.len() == secret.len() as u64 {
                file.read_exact(&mut secret)?;
                return Ok(secret);
            }
            // It was cut short when it was made.
            fs::remove_file(path)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    getrandom::fill(&mut secret).map_err(io::Error::other)?;
    write_new(path, &secret)?;
    Ok(secret)
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    check_ours(folder, &fs::symlink_metadata(folder)?)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)
}

/// Opens a file that is ours alone.
fn open_ours(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    check_ours(path, &file.metadata()?)?;
    Ok(file)
}

fn check_ours(path: &Path, metadata: &fs::Metadata) -> io::Result<()> {
    let ours = rustix::process::geteuid().as_raw();
    if metadata.uid() == ours && metadata.mode() & 0o022 == 0 {
        return Ok(());
    }
    let problem = format!(
        "`{}` belongs to another user, or others may write to it",
        path.display()
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, problem))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string takes all");
        hex
    })
}

#[cfg(test)]
mod tests;
