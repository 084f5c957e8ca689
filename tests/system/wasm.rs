//! WebAssembly functions: from a module to something that answers.

use std::io::Write as _;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nex_testkit::{NexUp, seeds, skip, workspace_root};

use crate::{devrun, find};

/// Compiles the seeds' echo as it is, or the same in C where Rust cannot compile for WASI; `None`, said loudly,
/// where no compiler can.
fn wasm_echo(seeds: &Path, folder: &Path) -> Option<PathBuf> {
    let source = folder.join("echo-wasm");
    fs::create_dir_all(source.join("src")).expect("a home takes folders");
    for file in ["Cargo.toml", "src/main.rs"] {
        fs::copy(seeds.join("echo-wasm").join(file), source.join(file)).expect("a seed");
    }
    let target = "wasm32-wasip1";
    let libraries = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", target])
        .output();
    let has_target = libraries
        .ok()
        .is_some_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir());
    if !has_target {
        return wasm_echo_of_c(folder);
    }
    let built = Command::new("cargo")
        .args(["build", "--release", "--offline", "--target", target])
        .arg("--target-dir")
        .arg(source.join("target"))
        .current_dir(&source)
        .env_remove("RUSTFLAGS")
        .output()
        .expect("where there is rustc there is cargo");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    // Cargo hides what passing tests print: this is to be seen.
    writeln!(
        std::io::stderr(),
        "WASM: the seeds' echo was compiled by cargo for {target}"
    )
    .ok();
    let module = source.join("target").join(target).join("release/echo.wasm");
    Some(module)
}

/// Compiles the echo in C, by one of the compilers that `cargo xtask setup` looks for.
fn wasm_echo_of_c(folder: &Path) -> Option<PathBuf> {
    let source = workspace_root().join("tests/system/clients/echo.c");
    let module = folder.join("echo.wasm");
    let zig = nex_testkit::bin_dir().parent()?.join("zig/ziglang/zig");
    let mut clang = Command::new("clang");
    clang.args(["--target=wasm32-wasi", "--sysroot=/usr"]);
    let mut of_zig = Command::new(zig);
    of_zig.args(["cc", "-target", "wasm32-wasi"]);
    for mut compiler in [clang, of_zig] {
        let built = compiler.arg("-O2").arg("-o").arg(&module).arg(&source);
        if built.output().is_ok_and(|output| output.status.success()) {
            let program = compiler.get_program().to_string_lossy().into_owned();
            writeln!(
                std::io::stderr(),
                "WASM: an echo in C was compiled by {program}"
            )
            .ok();
            return Some(module);
        }
    }
    skip("nothing compiles for WASI here: `cargo xtask setup` says why");
    None
}

#[tokio::test]
async fn the_seeds_echo_passes_every_payload_unchanged() {
    let Some(seeds) = seeds() else {
        return skip("the folder of the seeds is not here");
    };
    let up = NexUp::start();
    let Some(echo) = wasm_echo(&seeds, up.home().path()) else {
        return;
    };

    devrun(&up, &echo, &["--trigger-subject", "echo"]);

    assert_eq!(find(&up, "echo").unwrap()["workload_type"], "wasm");
    let client = async_nats::connect(up.url()).await.unwrap();
    for bytes in [0, 1, 256, 65_537, client.max_payload() - 4096] {
        let payload: Vec<u8> = (0..=255).cycle().take(bytes).collect();
        let reply = client.request("echo", payload.clone().into());
        let reply = reply.await.unwrap();
        assert!(reply.payload == payload, "{bytes} bytes came back changed");
    }
}

#[test]
fn our_example_answers_and_is_taken_up_again_after_its_nexlet_was_killed() {
    let up = NexUp::start();
    let text = fs::read_to_string(workspace_root().join("examples/functions/echo.wat"));
    let module = up.home().path().join("echo.wasm");
    fs::write(&module, wat::parse_str(text.unwrap()).unwrap()).unwrap();

    devrun(&up, &module, &["--trigger-subject", "echo"]);

    let answer = || up.nex(&["req", "echo", "hello nex!"]);
    assert_eq!(answer().ok().stdout.trim_end(), "hello nex!");
    let pid = crate::agents::nexlet_pid(&up, "wasm").expect("it runs");
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(killed.unwrap().success());
    let answered = nex_testkit::wait_until("the function answers again", crate::LIMIT, || {
        let output = answer();
        (output.code == 0)
            .then_some(output.stdout)
            .ok_or(output.stderr)
    });
    assert_eq!(answered.unwrap().trim_end(), "hello nex!");
}

#[test]
fn a_component_is_refused_with_what_to_build_instead() {
    let up = NexUp::start();
    let module = up.home().path().join("component.wasm");
    fs::write(&module, b"\0asm\x0d\0\x01\0").unwrap();

    let refused = up.nex(&[
        "devrun",
        module.to_str().unwrap(),
        "--trigger-subject",
        "echo",
    ]);

    assert_ne!(refused.code, 0);
    for part in ["is a component", "wasm32-wasip1"] {
        assert!(refused.stderr.contains(part), "{}", refused.stderr);
    }
}
