use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use tempfile::TempDir;
use wasmtime::Engine;

use super::{Compiled, Digest};

/// A folder with one compiled module in it.
struct Kept {
    dir: TempDir,
    engine: Engine,
    digest: Digest,
}

impl Kept {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let engine = Engine::default();
        let wasm = wat::parse_str("(module)").unwrap();
        let digest = Digest::of(&wasm);
        let code = engine.precompile_module(&wasm).unwrap();
        let kept = Self {
            dir,
            engine,
            digest,
        };
        kept.open().put(&digest, &code).unwrap();
        kept
    }

    fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("compiled")
    }

    fn open(&self) -> Compiled {
        Compiled::open(&self.root(), &self.engine).unwrap()
    }

    fn is_here(&self) -> bool {
        self.open().get(&self.engine, &self.digest).is_some()
    }

    fn code(&self) -> std::path::PathBuf {
        self.open().path(&self.digest, "code")
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_was_compiled_is_found_again() {
    let kept = Kept::new();

    assert!(kept.is_here());
    assert_eq!(mode(&kept.root()), 0o700);
    assert_eq!(mode(&kept.code()), 0o600);
}

#[test]
fn a_damaged_file_is_not_run() {
    let kept = Kept::new();
    let mut code = fs::read(kept.code()).unwrap();
    let middle = code.len() / 2;
    code[middle] ^= 1;
    fs::write(kept.code(), &code).unwrap();

    assert!(!kept.is_here());
}

#[test]
fn the_code_of_another_module_is_not_run() {
    let kept = Kept::new();
    let compiled = kept.open();
    let other = Digest::of(b"another module");
    for extension in ["code", "seal"] {
        let from = compiled.path(&kept.digest, extension);
        fs::copy(from, compiled.path(&other, extension)).unwrap();
    }

    assert!(compiled.get(&kept.engine, &other).is_none());
}

#[test]
fn code_that_another_node_has_compiled_is_not_run() {
    let (kept, other) = (Kept::new(), Kept::new());
    fs::copy(other.root().join("secret"), kept.root().join("secret")).unwrap();

    assert!(!kept.is_here());
}

#[test]
fn what_others_may_write_to_is_not_used() {
    let kept = Kept::new();
    set_mode(&kept.code(), 0o620);
    assert!(!kept.is_here());

    set_mode(&kept.root(), 0o777);
    let refused = Compiled::open(&kept.root(), &kept.engine).unwrap_err();

    assert!(
        refused.to_string().contains("others may write to it"),
        "{refused}"
    );
}

#[test]
fn a_secret_that_was_cut_short_is_made_anew() {
    let kept = Kept::new();
    fs::write(kept.root().join("secret"), "short").unwrap();

    assert!(!kept.is_here());
    assert_eq!(fs::read(kept.root().join("secret")).unwrap().len(), 32);
}

#[test]
fn what_another_wasmtime_has_compiled_is_removed() {
    let kept = Kept::new();
    let old = kept.root().join("0123456789abcdef");
    fs::create_dir(&old).unwrap();

    assert!(kept.is_here());
    assert!(!old.exists());
}

#[test]
fn room_is_made_by_what_was_not_used_for_long() {
    let kept = Kept::new();
    let compiled = kept.open();
    let old = Digest::of(b"old");
    compiled.put(&old, b"code").unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    let file = fs::File::options()
        .append(true)
        .open(compiled.path(&old, "code"));
    file.unwrap().set_modified(long_ago).unwrap();
    let bytes = fs::metadata(kept.code()).unwrap().len();

    compiled.make_room(bytes).unwrap();

    assert!(kept.is_here());
    assert!(!compiled.path(&old, "code").exists());
    assert!(!compiled.path(&old, "seal").exists());
}
