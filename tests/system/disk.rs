//! Small disks, and disks that become full and free again.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use nex_testkit::{Home, NexUp, wait_until};

use crate::{LIMIT, devrun, file, find, start_shell};

/// A function that writes much into its log.
const CHATTY_JS: &str = r#"
(subject, payload) => { console.log(`said ${String.fromCharCode(...payload)} ` + "x".repeat(20000)); return "said"; };
"#;

/// Limit for a record to be removed when there is space again: the server is restarted for it.
const FORGOTTEN: Duration = Duration::from_secs(45);

/// A function that keeps a value, or an object, and returns why that failed.
const KEEPER_MJS: &str = r#"
export default async (request, nex) => {
  const value = "x".repeat(100000);
  try {
    if (request.text() === "value") await nex.kv("kept").put("k", value);
    else await nex.objectStore("kept").put("n", value);
    return "kept";
  } catch (error) {
    return `${error.code}: ${error.message}`;
  }
};
"#;

/// A disk of its own for the data folder of a home.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, with a note, where this user may mount nothing.
    fn mount(home: &Home, size: &str) -> Option<Self> {
        let path = home.path().join("data");
        fs::create_dir(&path).unwrap();
        let options = format!("size={size},mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "none"])
            .arg(&path)
            .output();
        if !mounted.is_ok_and(|mounted| mounted.status.success()) {
            nex_testkit::skip("this user may not mount a disk");
            return None;
        }
        Some(Self(path))
    }

    /// Takes all space that is left.
    fn fill(&self) {
        let path = self.0.join("fill");
        let mut file = fs::File::options()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        for size in [1 << 20, 4096, 1] {
            let block = vec![0; size];
            while file.write_all(&block).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.0.join("fill")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What is killed may have files open for a moment.
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

/// A function too large for what the file system has set aside.
fn large(home: &Home, name: &str) -> PathBuf {
    let padding: String = (0..100_000).map(|n: u32| format!("{n} ")).collect();
    file(home, name, &format!("() => 1; // {padding}{name}"))
}

fn upload(up: &NexUp, path: &Path) -> nex_testkit::Output {
    up.nex(&[
        "devrun",
        path.to_str().unwrap(),
        "--trigger-subject",
        "large",
    ])
}

/// Waits until a large file can be uploaded.
#[track_caller]
fn uploads_again(up: &NexUp, home: &Home) {
    wait_until("files are kept again", LIMIT, || {
        let output = upload(up, &large(home, "second.js"));
        (output.code == 0).then_some(()).ok_or((output, up.log()))
    })
    .unwrap();
}

#[test]
fn streams_take_messages_again_when_a_full_disk_is_free() {
    let home = Arc::new(Home::new());
    let Some(disk) = SmallDisk::mount(&home, "500m") else {
        return;
    };
    let up = NexUp::builder().home(Arc::clone(&home)).start();
    start_shell(&up, "kept", "service", "sleep 1000; true", &[]).ok();
    let pid = || find(&up, "kept").map(|kept| kept["metadata"]["pid"].clone());
    let before = pid().unwrap();
    let chatty = file(&home, "chatty.js", CHATTY_JS);
    devrun(&up, &chatty, &["--trigger-subject", "chatty"]);
    let keeper = file(&home, "keeper.mjs", KEEPER_MJS);
    devrun(&up, &keeper, &["--trigger-subject", "keeper"]);
    let keep = |what: &str| {
        up.nex(&["req", "keeper", what, "--timeout", "20s"])
            .ok()
            .stdout
    };
    for what in ["value", "object"] {
        assert_eq!(keep(what).trim(), "kept");
    }

    disk.fill();
    // A function hears why, within the time of its call.
    for what in ["value", "object"] {
        let told = keep(what);
        for part in ["full: ", "no space left on device", "free space"] {
            assert!(told.contains(part), "`{part}`: {told}");
        }
    }
    let refused = upload(&up, &large(&home, "first.js"));
    assert_eq!(refused.code, 1, "{refused}");
    for word in ["no space left", "hint: free space"] {
        assert!(refused.stderr.contains(word), "`{word}`: {refused}");
    }
    for number in 0..20 {
        up.nex(&["req", "chatty", &format!("full-{number}")]).ok();
    }
    wait_until("it is said", LIMIT, || {
        let log = up.log();
        log.contains("the disk is full").then_some(()).ok_or(log)
    })
    .unwrap();
    disk.free();

    uploads_again(&up, &home);
    up.nex(&["req", "chatty", "free"]).ok();
    wait_until("logs are kept again", LIMIT, || {
        let logs = up.nex(&["logs", "chatty"]);
        let kept = logs.stdout.contains("said free");
        kept.then_some(()).ok_or_else(|| (logs.code, up.log()))
    })
    .unwrap();
    assert!(
        up.log()
            .contains("streams take no messages until a restart"),
        "{}",
        up.log()
    );
    assert_eq!(pid().unwrap(), before, "the service runs on");
}

#[test]
fn a_server_restarts_on_a_full_disk() {
    let home = Arc::new(Home::new());
    let Some(disk) = SmallDisk::mount(&home, "500m") else {
        return;
    };
    let up = NexUp::builder().home(Arc::clone(&home)).start();
    let chatty = file(&home, "chatty.js", CHATTY_JS);
    devrun(&up, &chatty, &["--trigger-subject", "chatty"]);
    disk.fill();

    let server = fs::read_to_string(up.data_dir().join("nats-server.pid")).unwrap();
    let killed = Command::new("kill").args(["-9", server.trim()]).status();
    assert!(killed.unwrap().success());

    wait_until("the function answers", LIMIT, || {
        let output = up.nex(&["req", "chatty", "x"]);
        (output.code == 0).then_some(()).ok_or((output, up.log()))
    })
    .unwrap();
    disk.free();
    uploads_again(&up, &home);
}

/// Stops workloads on a full disk, and starts again on a free one. Returns which stops failed.
fn stop_on_a_full_disk(home: &Arc<Home>, disk: &SmallDisk, reserve: bool) -> Vec<&'static str> {
    let up = NexUp::builder().home(Arc::clone(home)).start();
    // Large records: to remove one, the journal has to write others anew.
    let shell = format!("sleep 1000; : {}", "x".repeat(60_000));
    for name in ["one", "two", "three"] {
        start_shell(&up, name, "service", &shell, &[]).ok();
    }
    let chatty = file(home, "chatty.js", CHATTY_JS);
    devrun(&up, &chatty, &["--trigger-subject", "chatty"]);
    if !reserve {
        for entry in fs::read_dir(up.data_dir().join("journal")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|name| name == "reserve") {
                fs::remove_file(path).unwrap();
            }
        }
    }

    let (mut stopped, mut failed) = (Vec::new(), Vec::new());
    for name in ["chatty", "one", "two", "three"] {
        // A stop frees some space.
        disk.fill();
        let output = up.nex(&["workload", "stop", name]);
        if output.code == 0 {
            stopped.push(name);
            continue;
        }
        assert_eq!(output.code, 1, "{output}");
        for word in ["may come back", "No space left", "free space"] {
            assert!(output.stderr.contains(word), "`{word}`: {output}");
        }
        assert!(!output.stdout.contains("successfully"), "{output}");
        failed.push(name);
    }
    drop(up.kill());
    disk.free();
    let up = NexUp::builder().home(Arc::clone(home)).start();
    for name in stopped {
        assert!(find(&up, name).is_err(), "{name} is back");
    }
    failed
}

#[test]
fn what_is_stopped_on_a_full_disk_does_not_come_back() {
    for reserve in [true, false] {
        let home = Arc::new(Home::new());
        let Some(disk) = SmallDisk::mount(&home, "90m") else {
            return;
        };
        let failed = stop_on_a_full_disk(&home, &disk, reserve);
        assert_eq!(failed.contains(&"chatty"), !reserve, "{failed:?}");
    }
}

/// The command lines of processes of a home that run `sleep` for so many seconds.
fn sleepers(up: &NexUp, seconds: &str) -> Vec<String> {
    let commands = up.processes().into_iter().map(|process| process.command);
    commands
        .filter(|command| command.contains(&format!("sleep {seconds}")))
        .collect()
}

/// Nothing of what was refused runs, then or after the next start, and what ran before runs on.
#[test]
fn a_start_on_a_full_disk_fails_and_leaves_nothing() {
    for state in ["disk", "kv"] {
        let home = Arc::new(Home::new());
        let Some(disk) = SmallDisk::mount(&home, "120m") else {
            return;
        };
        let start = || {
            let up = NexUp::builder().home(Arc::clone(&home));
            up.arg("--state").arg(state).start()
        };
        let up = start();
        start_shell(&up, "kept", "service", "sleep 1021; true", &[]).ok();
        let function = file(&home, "small.js", "() => 'small'");
        // Too long for what a file has left of its last page.
        let padding = "x".repeat(6000);
        let small = serde_json::json!({
            "uri": format!("file://{}", function.display()),
            "triggers": [{ "subject": "small" }],
            "environment": { "PADDING": padding },
        });
        let small = small.to_string();
        let start_small = [
            "workload",
            "start",
            "--type",
            "js",
            "--lifecycle",
            "function",
            "--name",
            "small",
            "--start-request",
            &small,
        ];

        disk.fill();
        let service = start_shell(&up, "new", "service", "sleep 1022; true", &[]);
        disk.fill();
        let function = up.nex(&start_small);
        for refused in [&service, &function] {
            assert_eq!(refused.code, 1, "{state}: {refused}");
            for word in [
                "failed to start",
                "space left on device",
                "hint: free space",
            ] {
                assert!(
                    refused.stderr.contains(word),
                    "{state}: `{word}`: {refused}"
                );
            }
        }
        assert!(
            find(&up, "new").is_err() && find(&up, "small").is_err(),
            "{state}"
        );
        assert_eq!(sleepers(&up, "1022"), [""; 0], "{state}");
        assert_eq!(up.nex(&["req", "small", "x"]).code, 4, "{state}");
        drop(up.kill());
        disk.free();

        let up = start();
        wait_until("the other service is back", LIMIT, || {
            let found = find(&up, "kept")?;
            (found["workload_state"] == "running")
                .then_some(())
                .ok_or(vec![found])
        })
        .unwrap();
        assert_eq!(crate::list(&up).len(), 1, "{state}");
        assert_eq!(sleepers(&up, "1022"), [""; 0], "{state}");
    }
}

/// A bucket has no reserve: the stop says that the workload may come back, and once there is space the
/// record is removed all the same.
#[test]
fn what_is_stopped_on_a_full_disk_leaves_its_bucket_when_there_is_space() {
    let home = Arc::new(Home::new());
    let Some(disk) = SmallDisk::mount(&home, "120m") else {
        return;
    };
    let start = || {
        let up = NexUp::builder().home(Arc::clone(&home));
        up.arg("--state").arg("kv").start()
    };
    let up = start();
    let shell = format!("sleep 1023; : {}", "x".repeat(5_000));
    start_shell(&up, "one", "service", &shell, &[]).ok();
    disk.fill();
    // The server notices a full disk when it writes.
    start_shell(&up, "two", "service", &shell, &[]);

    let stopped = up.nex(&["workload", "stop", "one"]);

    assert_eq!(sleepers(&up, "1023"), [""; 0], "{stopped}");
    if stopped.code != 0 {
        assert_eq!(stopped.code, 1, "{stopped}");
        for word in [
            "it is stopped, but may come back",
            "pace left on device",
            "free space",
        ] {
            assert!(stopped.stderr.contains(word), "`{word}`: {stopped}");
        }
    }
    disk.free();
    let nodes = up.nex(&["node", "list", "--json"]).ok().stdout;
    let nodes: serde_json::Value = serde_json::from_str(&nodes).unwrap();
    let node = nodes[0]["node_id"].as_str().unwrap();
    let info = format!("$JS.API.STREAM.INFO.KV_nex-{node}");
    wait_until("no record is left", FORGOTTEN, || {
        let output = up.nex(&["req", &info, ""]);
        let info: serde_json::Value = serde_json::from_str(&output.stdout).unwrap_or_default();
        let messages = info["state"]["messages"].as_u64();
        (messages == Some(0))
            .then_some(())
            .ok_or((output, up.log()))
    })
    .unwrap();
    drop(up.kill());
    let up = start();
    assert_eq!(crate::list(&up), Vec::<serde_json::Value>::new());
}

#[test]
fn records_in_a_bucket_need_a_small_disk_only() {
    for size in ["90m", "150m", "220m"] {
        let home = Arc::new(Home::new());
        let Some(_disk) = SmallDisk::mount(&home, size) else {
            return;
        };
        let up = NexUp::builder()
            .home(Arc::clone(&home))
            .arg("--state")
            .arg("kv")
            .start();
        assert!(
            up.log().contains("MB of start requests are kept"),
            "{}",
            up.log()
        );
        let chatty = file(&home, "chatty.js", CHATTY_JS);
        devrun(&up, &chatty, &["--trigger-subject", "chatty"]);
        let home = up.kill();

        let up = NexUp::builder().home(home).arg("--state").arg("kv").start();
        wait_until("the function is back", LIMIT, || {
            let output = up.nex(&["req", "chatty", "x"]);
            (output.code == 0).then_some(()).ok_or((output, up.log()))
        })
        .unwrap();
    }
}

#[test]
fn a_small_function_runs_on_a_very_small_disk() {
    for size in ["8m", "14m", "24m"] {
        let home = Arc::new(Home::new());
        let Some(_disk) = SmallDisk::mount(&home, size) else {
            return;
        };
        let up = NexUp::builder().home(Arc::clone(&home)).start();
        let small = file(&home, "small.js", "() => 'small'");
        devrun(&up, &small, &["--trigger-subject", "small"]);
        up.nex(&["req", "small", "x"]).ok();
    }
}

#[test]
fn a_small_disk_is_enough_and_one_without_space_is_said() {
    for (size, kept) in [("200m", "66 MiB"), ("20m", "6 MiB")] {
        let home = Arc::new(Home::new());
        let Some(_disk) = SmallDisk::mount(&home, size) else {
            return;
        };
        let up = NexUp::builder().home(Arc::clone(&home)).start();
        assert!(up.log().contains(kept), "{}", up.log());
        if size == "200m" {
            let chatty = file(&home, "chatty.js", CHATTY_JS);
            devrun(&up, &chatty, &["--trigger-subject", "chatty"]);
        }
    }
    let home = Arc::new(Home::new());
    let Some(_disk) = SmallDisk::mount(&home, "4m") else {
        return;
    };
    let error = NexUp::builder()
        .home(Arc::clone(&home))
        .try_start()
        .unwrap_err();
    let text = format!("{error:#}");
    for word in ["no space", "hint: free space on the disk", "--data-dir"] {
        assert!(text.contains(word), "`{word}`: {text}");
    }
}
