use std::fs;

use nex_protocol::ErrorCode;
use nexlet::Nexlet as _;

use crate::bench::{Bench, next_text};

pub(crate) const ECHO: &str = include_str!("../../../../examples/functions/echo.wat");

#[tokio::test]
async fn every_payload_up_to_the_servers_maximum_comes_back() {
    let bench = Bench::new().await;
    bench.start(ECHO, "echo").await.1.unwrap();
    let largest = bench.client.max_payload() - 4096;

    for bytes in [0, 1, 255, 65_536, largest] {
        let payload: Vec<u8> = (0..=255).cycle().take(bytes).collect();
        let reply = bench.call("echo", payload.clone()).await;
        assert!(reply.payload == payload, "{bytes} bytes came back changed");
    }
}

/// Writes this to its stderr, in two parts, and ends with a code.
fn complains(text: &str, code: i32) -> String {
    let (first, rest) = text.split_at(3);
    let text = text.replace('\n', "\\n");
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 64) "{text}")
            (func (export "_start")
                (i32.store (i32.const 0) (i32.const 64))
                (i32.store (i32.const 4) (i32.const {}))
                (i32.store (i32.const 8) (i32.const 67))
                (i32.store (i32.const 12) (i32.const {}))
                (drop (call $write (i32.const 2) (i32.const 0) (i32.const 2) (i32.const 16)))
                (call $exit (i32.const {code}))))"#,
        first.len(),
        rest.len(),
    )
}

#[tokio::test]
async fn each_line_of_stderr_is_a_line_of_the_log_and_the_exit_code_is_told() {
    let bench = Bench::new().await;
    let wat = complains("one line\nand the last", 3);
    let (id, started) = bench.start(&wat, "a").await;
    started.unwrap();
    let subject = format!("$NEX.FEED.default.logs.{id}.stderr");
    let mut stderr = bench.client.subscribe(subject).await.unwrap();

    let reply = bench.call("a", "").await;

    let (code, text) = nex_nats::read_error(&reply).unwrap();
    assert_eq!(
        (code, text.as_str()),
        (ErrorCode::Internal, "exited with code 3")
    );
    for line in [
        "one line\n",
        "and the last\n",
        "failed on a: exited with code 3\n",
    ] {
        assert_eq!(next_text(&mut stderr).await, line);
    }
}

#[tokio::test]
async fn too_large_a_result_is_told_with_its_code() {
    let bench = Bench::new().await;
    let wat = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start")
            (i32.store (i32.const 4) (i32.const 65536))
            (loop $more
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
                (br $more))))"#;
    bench.start(wat, "a").await.1.unwrap();

    let reply = bench.call("a", "").await;

    let (code, text) = nex_nats::read_error(&reply).unwrap();
    assert_eq!(code, ErrorCode::TooLarge, "{text}");
}

#[tokio::test]
async fn a_module_is_compiled_once_and_again_when_its_code_is_damaged() {
    let bench = Bench::new().await;
    assert!(fs::read_dir(bench.dir().join("compiled")).is_err());

    bench.start(ECHO, "a").await.1.unwrap();
    bench.start(ECHO, "b").await.1.unwrap();
    let compiled = bench.compiled();
    let [code] = &compiled[..] else {
        panic!("{compiled:?}")
    };
    let whole = fs::read(code).unwrap();
    // As a new file: what runs has the old one mapped.
    fs::remove_file(code).unwrap();
    fs::write(code, &whole[..whole.len() / 2]).unwrap();
    bench.start(ECHO, "c").await.1.unwrap();

    assert!(fs::read(code).unwrap() == whole);
    for subject in ["a", "b", "c"] {
        assert_eq!(bench.call(subject, "hello").await.payload, "hello");
    }
}

#[tokio::test]
async fn what_is_no_command_is_refused_with_the_reason() {
    let bench = Bench::new().await;

    let refused = bench.start("(component)", "a").await.1.unwrap_err();

    assert_eq!(refused.code, ErrorCode::BadRequest);
    let text = refused.to_string();
    assert!(text.contains("f.wasm is a component"), "{text}");
    assert_eq!(bench.nexlet.active(), 0);
}

#[tokio::test]
async fn a_number_of_calls_in_flight_is_refused() {
    let bench = Bench::new().await;
    let request = serde_json::json!({
        "uri": "file:///f.wasm", "triggers": [{ "subject": "a" }], "concurrency": 1,
    });

    let refusal = bench.start_request(&request).await.1.unwrap_err();

    assert_eq!(refusal.code, ErrorCode::BadRequest);
    let text = "`concurrency` is not for `wasm` functions";
    assert!(refusal.to_string().contains(text), "{refusal}");
}
