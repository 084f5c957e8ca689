use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use tempfile::TempDir;

use super::*;
use crate::cli::{Command as Words, NodeCommand, NodeUpArgs, UpArgs, WorkloadCommand};

/// The places of files, in a folder of a test's own.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn with(self, name: &str, text: &str) -> Self {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        self
    }

    fn parse(&self, line: &str) -> Result<(Cli, Used), Misunderstood> {
        let locations = Locations {
            system: self.path("system"),
            user: Some(self.path("user")),
            working: self.path("working"),
            home: Some("/home/ann".into()),
        };
        let config = self.path("config").display().to_string();
        let words = line.replace("CONFIG", &config);
        let words = words.split_whitespace().map(OsString::from);
        parse(
            std::iter::once("nex".into()).chain(words).collect(),
            &locations,
        )
    }

    #[track_caller]
    fn node_up(&self, line: &str) -> (NodeUpArgs, Used) {
        let (cli, used) = self.parse(&format!("node up {line}")).unwrap();
        let Words::Node(node) = cli.command else {
            panic!("no node");
        };
        let NodeCommand::Up(args) = node.command else {
            panic!("no node up");
        };
        (*args, used)
    }

    #[track_caller]
    fn nats(&self, line: &str) -> crate::cli::NatsArgs {
        self.parse(line).unwrap().0.global.nats
    }

    #[track_caller]
    fn refused(&self, line: &str) -> String {
        match self.parse(line) {
            Err(Misunderstood::File(error)) => error.text(),
            other => panic!("not refused: {other:?}"),
        }
    }
}

#[test]
fn each_file_comes_before_the_next_and_the_command_line_before_all() {
    let named = |name| format!(r#"{{"node_name":"{name}"}}"#);
    let mut files = Files::new();
    let name = |files: &Files, line: &str| files.node_up(line).0.node_name;

    assert_eq!(name(&files, ""), None);
    for (file, line) in [
        ("system", ""),
        ("user", ""),
        ("working", ""),
        ("config", "--config CONFIG"),
    ] {
        files = files.with(file, &named(file));
        assert_eq!(name(&files, line).as_deref(), Some(file));
    }
    let typed = name(&files, "--config CONFIG --node-name typed");
    assert_eq!(typed.as_deref(), Some("typed"));
}

#[test]
fn a_key_is_written_in_any_of_the_usual_ways() {
    for text in [
        r#"{"node_xkey_seed":"SX","nats":{"creds_file":"/c"}}"#,
        r#"{"nodeXkeySeed":"SX","nats":{"credsFile":"/c"}}"#,
        r#"{"node-xkey-seed":"SX","nats.creds_file":"/c"}"#,
        r#"{"nodeXkeySeed":"no","node_xkey_seed":"SX","nats.creds_file":"/c","nats":{"creds_file":"no"}}"#,
    ] {
        let files = Files::new().with("user", text);

        assert_eq!(
            files.node_up("").0.node_xkey_seed.as_deref(),
            Some("SX"),
            "{text}"
        );
        assert_eq!(files.nats("node up").creds, Some("/c".into()), "{text}");
    }
}

#[test]
fn every_kind_of_value_is_what_its_flag_takes() {
    let files = Files::new().with(
        "user",
        r#"{
            "auction_ttl": "1m30s", "allow_remote_agent_registration": true, "embedded": false,
            "tags": {"region": "lab", "rack": 7}, "nexus": null, "port": 0,
            "nats": {"servers": ["nats://a:1", "nats://b:2"], "timeout": "3s"},
            "logger": {"level": "debug"}
        }"#,
    );

    let (args, _) = files.node_up("");
    let (cli, _) = files.parse("node up").unwrap();

    assert_eq!(args.auction_ttl.0.as_secs(), 90);
    assert!(args.allow_remote_agent_registration && !args.embedded);
    let tags = crate::cli::value::tags(&args.tags);
    assert_eq!(
        (tags["region"].as_str(), tags["rack"].as_str()),
        ("lab", "7")
    );
    assert_eq!(args.nexus.as_str(), "nexus");
    assert_eq!(cli.global.nats.servers, ["nats://a:1", "nats://b:2"]);
    assert_eq!(cli.global.nats.timeout.unwrap().0.as_secs(), 3);
    assert!(matches!(
        cli.global.log_level,
        Some(crate::cli::global::LogLevel::Debug)
    ));
}

#[test]
fn lists_are_written_as_on_the_command_line_too() {
    for tags in [r#""a=1;b=2""#, r#"["a=1","b=2"]"#, r#"{"a":"1","b":2}"#] {
        let files = Files::new().with("user", &format!(r#"{{"tags":{tags}}}"#));
        let found = crate::cli::value::tags(&files.node_up("").0.tags);
        assert_eq!(found.len(), 2, "{tags}: {found:?}");
    }
}

#[test]
fn one_file_serves_every_command_that_has_the_flag() {
    let files = Files::new().with("user", r#"{"tags":{"a":"1"},"port":4333,"name":"egg"}"#);

    let (up, _) = files.parse("up").unwrap();
    let (start, _) = files.parse("workload start --start-request {}").unwrap();

    let Words::Up(UpArgs { port, tags, .. }) = up.command else {
        panic!("no up");
    };
    assert_eq!((port, tags.len()), (4333, 1));
    let Words::Workload(workload) = start.command else {
        panic!("no workload");
    };
    let WorkloadCommand::Start(start) = workload.command else {
        panic!("no start");
    };
    assert_eq!((start.name.as_deref(), start.tags.len()), (Some("egg"), 1));
    assert!(files.parse("node list").is_ok());
}

#[test]
fn a_file_that_names_a_nats_does_not_keep_nex_up_from_its_own() {
    let files = Files::new().with("user", r#"{"nats":{"servers":["nats://a:1"]}}"#);

    assert!(files.nats("up").servers.is_empty());
    assert_eq!(files.nats("node list").servers, ["nats://a:1"]);
}

#[test]
fn what_to_start_is_said_once() {
    let files = Files::new().with("user", r#"{"nexfile":"web.yaml"}"#);
    let start = |line: &str| {
        let (cli, _) = files.parse(&format!("workload start {line}")).unwrap();
        let Words::Workload(workload) = cli.command else {
            panic!("no workload");
        };
        let WorkloadCommand::Start(start) = workload.command else {
            panic!("no start");
        };
        (start.nexfile, start.start_request)
    };

    assert_eq!(start(""), (Some("web.yaml".into()), None));
    assert_eq!(start("--start-request {}"), (None, Some("{}".into())));
}

#[test]
fn a_switch_is_taken_back_on_the_command_line_and_by_a_file() {
    let on = r#"{"embedded":true}"#;
    let files = Files::new().with("system", on);

    assert!(files.node_up("").0.embedded);
    assert!(!files.node_up("--embedded=false").0.embedded);
    assert!(files.node_up("--embedded=true").0.embedded);
    let files = files.with("user", r#"{"embedded":false}"#);
    assert!(!files.node_up("").0.embedded);
    let (cli, _) = Files::new().parse("devrun x -- --json=false").unwrap();
    let Words::Devrun(args) = cli.command else {
        panic!("no devrun");
    };
    assert_eq!(args.argv, ["--json=false"]);
}

#[test]
fn words_of_a_workload_stay_behind_what_files_say() {
    let files = Files::new().with("user", r#"{"name":"egg"}"#);

    let (cli, _) = files.parse("devrun ./x -- --name spam").unwrap();

    let Words::Devrun(args) = cli.command else {
        panic!("no devrun");
    };
    assert_eq!(args.name.as_deref(), Some("egg"));
    assert_eq!(args.argv, ["--name", "spam"]);
}

#[test]
fn who_we_are_is_replaced_as_a_whole() {
    let files = Files::new()
        .with(
            "system",
            r#"{"nats":{"creds_file":"/c","servers":"nats://a:1"}}"#,
        )
        .with("user", r#"{"nats":{"password":"p"}}"#);

    let nats = files.nats("node list --nats.user ann");

    assert_eq!(nats.creds, None);
    assert_eq!(
        (nats.user.as_deref(), nats.password.as_deref()),
        (Some("ann"), Some("p"))
    );
    assert_eq!(nats.servers, ["nats://a:1"]);
    let nats = files.nats("node list --nats.context prod");
    assert!(nats.servers.is_empty() && nats.password.is_none());
    let files = Files::new().with("user", r#"{"nats":{"context":"prod"}}"#);
    assert_eq!(files.nats("node list -s nats://b:1").context, None);
}

#[test]
fn what_a_flag_needs_may_be_in_a_file_or_on_the_line() {
    let files = Files::new().with("user", r#"{"issuer_nkey_seed":"SU"}"#);

    let (args, _) = files.node_up("--issuer-nkey U");

    assert_eq!(args.issuer.nkey_seed.as_deref(), Some("SU"));
    let refused = files.refused("node up");
    assert!(
        refused.contains("--issuer-nkey") && refused.contains("belong together"),
        "{refused}"
    );
}

#[test]
fn keys_that_nobody_knows_are_remarked_on_and_those_of_others_are_not() {
    let files = Files::new().with("user", r#"{"port":1,"node":{"up":{}},"nats":{"url":"x"}}"#);

    let (_, used) = files.parse("node list").unwrap();

    assert_eq!(used.remarks.len(), 2, "{:?}", used.remarks);
    assert!(used.remarks[0].contains("`nats.url`"), "{:?}", used.remarks);
    assert!(used.remarks[1].contains("`node`"), "{:?}", used.remarks);
    assert!(used.notes.is_empty(), "{:?}", used.notes);
}

#[test]
fn a_file_of_an_editor_of_windows_is_read() {
    for place in ["system", "user", "working", "config"] {
        let files = Files::new().with(place, "\u{feff}{\r\n  \"node_name\": \"n\"\r\n}\r\n");
        let line = if place == "config" {
            "--config CONFIG"
        } else {
            ""
        };
        assert_eq!(
            files.node_up(line).0.node_name.as_deref(),
            Some("n"),
            "{place}"
        );
    }
    let files = Files::new();
    fs::write(files.path("user"), b"\xff\xfe{\0}\0").unwrap();
    let refused = files.refused("node list");
    assert!(refused.contains("UTF-16: save it as UTF-8"), "{refused}");
}

#[test]
fn paths_of_files_and_flags_may_begin_at_home() {
    let text = r#"{"data_dir":"~/node","agents":{"uri":"file://~/bin/n"},"nats":{"creds_file":"~/k.creds","tlsca":"~/ca"}}"#;
    let files = Files::new().with("user", text);

    let (args, _) = files.node_up("");
    let (nats, typed) = (
        files.nats("node up"),
        files.nats("node up --creds=~/t.creds"),
    );

    assert_eq!(args.data_dir, Some("/home/ann/node".into()));
    assert_eq!(args.agents.agents[0].program, Path::new("/home/ann/bin/n"));
    assert_eq!(nats.creds, Some("/home/ann/k.creds".into()));
    assert_eq!(nats.tlsca, Some("/home/ann/ca".into()));
    assert_eq!(typed.creds, Some("/home/ann/t.creds".into()));
    let refused = files.refused("node up --config=~/no.json");
    assert!(refused.contains("`/home/ann/no.json`"), "{refused}");
}

#[test]
fn a_broken_file_is_refused_with_the_place() {
    for file in ["system", "user", "config"] {
        let files = Files::new().with(file, "{\n  \"node_name\": n1\n}");
        let refused = files.refused(if file == "config" {
            "node list --config CONFIG"
        } else {
            "node list"
        });
        assert!(
            refused.contains(file) && refused.contains("line 2, column "),
            "{refused}"
        );
        assert!(refused.contains("hint: want a JSON object"), "{refused}");
    }
    let refused = Files::new().refused("node list --config CONFIG");
    assert!(refused.contains("No such file"), "{refused}");
    for (text, what) in [
        ("{“node_name”: ”n1”}", "a typographic quote (U+201C)"),
        (
            "{\n  \"node_name\": «n1»\n}",
            "a typographic quote (U+00AB)",
        ),
        (
            "{\n\u{a0} \"node_name\": \"n1\"\n}",
            "a non-breaking space (U+00A0)",
        ),
        ("{\"node_name\": \"n1”}", "a typographic quote (U+201D)"),
    ] {
        let refused = Files::new().with("user", text).refused("node list");
        assert!(refused.contains(what), "{refused}");
    }
}

#[test]
fn a_value_that_cannot_be_used_is_refused_with_file_and_key() {
    for (text, wanted) in [
        (r#"{"tags":["a"]}"#, "want `KEY=VALUE`"),
        (r#"{"auction_ttl":5}"#, "Go duration"),
        (r#"{"embedded":"yes"}"#, "want `true` or `false`"),
        (r#"{"nexus":["a","b"]}"#, "want one value"),
        (r#"{"node_name":[null]}"#, "not null"),
        (r#"{"logger":{"level":"loud"}}"#, "loud"),
    ] {
        let refused = Files::new().with("user", text).refused("node up");
        assert!(
            refused.contains(wanted) && refused.contains("user`"),
            "{refused}"
        );
    }
}

#[test]
fn the_working_folder_never_breaks_a_command() {
    for text in [
        "// not ours\n{}",
        "[1, 2]",
        "",
        r#"{"node_name":"n","tags":["frontend"],"embedded":"never"}"#,
    ] {
        let files = Files::new().with("working", text);
        let (_, used) = files.node_up("--node-name n");
        assert!(!used.notes.is_empty(), "{text}");
        for note in &used.notes {
            assert!(
                note.starts_with("warning: ") && note.contains("./config.json"),
                "{note}"
            );
        }
    }
    let foreign = Files::new().with("working", r#"{"compilerOptions":{}}"#);
    assert!(foreign.node_up("").1.notes.is_empty());
    let folder = Files::new();
    fs::create_dir(folder.path("working")).unwrap();
    assert!(folder.node_up("").1.notes.is_empty());
}

#[test]
fn the_file_of_another_program_changes_nothing_and_that_is_said() {
    for (line, text, key) in [
        ("workload list", r#"{"type":"module"}"#, "`type`"),
        ("workload list", r#"{"filter":"*.ts"}"#, "`filter`"),
        ("node list", r#"{"filter":"a=b"}"#, "`filter`"),
        ("logs", r#"{"since":"1h"}"#, "`since`"),
        ("dlq drop 1", r#"{"all":true}"#, "`all`"),
        (
            "devrun ./x",
            r#"{"name":"app","lifecycle":"job"}"#,
            "`name`",
        ),
        (
            "workload start --start-request {}",
            r#"{"tags":["x=y"]}"#,
            "`tags`",
        ),
        (
            "up",
            r#"{"port":8080,"database":{"host":"db"}}"#,
            "`database`",
        ),
        (
            "node up",
            r#"{"node_name":"x","compilerOptions":{}}"#,
            "`compilerOptions`",
        ),
        (
            "node list",
            r#"{"namespace":"prod","version":"1.2.3"}"#,
            "`version`",
        ),
        // Unknown keys below those that Nex has too.
        (
            "node list",
            r#"{"logger":{"level":"debug","transports":["console"]}}"#,
            "`logger.transports`",
        ),
        (
            "workload list",
            r#"{"nats":{"servers":"nats://prod:4222","reconnect":true},"nexus":"n"}"#,
            "`nats.reconnect`",
        ),
        (
            "node up",
            r#"{"node_name":"n","nats":{"url":"nats://prod:4222"}}"#,
            "`nats.url`",
        ),
        // Nothing but names that are flags too.
        ("up", r#"{"port":3000}"#, "such as `nexus`"),
        (
            "up",
            r#"{"port":3000,"tags":{"team":"shop"},"state":"kv","json":true}"#,
            "such as `nexus`",
        ),
        (
            "node list",
            r#"{"logger":{"level":"debug"}}"#,
            "such as `nexus`",
        ),
        (
            "workload list",
            r#"{"nats":{"servers":["nats://prod:4222"],"user":"app","timeout":"5s"}}"#,
            "such as `nexus`",
        ),
        (
            "workload list",
            r#"{"name":"app","type":"module","namespace":"prod","json":true}"#,
            "such as `nexus`",
        ),
        (
            "node up",
            r#"{"agents":["planner"],"embedded":true}"#,
            "such as `nexus`",
        ),
        (
            "up",
            r#"{"nexus":{"url":"https://nexus"},"port":8080}"#,
            "such as `nexus`",
        ),
        ("up", r#"{"node_name":null,"port":8080}"#, "such as `nexus`"),
    ] {
        let files = Files::new().with("working", text);

        let (cli, used) = files.parse(line).unwrap();

        let (plain, _) = Files::new().parse(line).unwrap();
        assert_eq!(format!("{cli:?}"), format!("{plain:?}"), "{line} {text}");
        let note = used.notes.first().expect("it is said");
        assert!(
            note.starts_with("warning: ") && note.contains(key),
            "{note}"
        );
        assert!(note.contains("`--config ./config.json`"), "{note}");
    }
    let ours =
        r#"{"$schema":"x","nexus":"nexus","namespace":"shop","nats":{"servers":"nats://a:1"}}"#;
    let files = Files::new().with("working", ours);
    let (cli, used) = files.parse("workload list").unwrap();
    assert_eq!(cli.global.namespace.unwrap().as_str(), "shop");
    assert_eq!(
        used.notes,
        ["`./config.json` sets `namespace`, `nats.servers`"]
    );
}

#[test]
fn what_the_working_folder_changes_is_announced() {
    let files = Files::new().with("working", r#"{"node_name":"n","nexus":"x","port":1}"#);

    let (_, used) = files.node_up("--nexus y");

    assert_eq!(used.notes, ["`./config.json` sets `node_name`"]);
    assert_eq!(used.origin("node_name"), Some("./config.json"));
    assert_eq!(used.origin("nexus"), None);
}

#[test]
fn a_file_that_others_may_write_is_not_believed() {
    for mode in [0o664, 0o646, 0o666] {
        let files = Files::new().with("working", r#"{"node_seed":"SN"}"#);
        let allow = fs::Permissions::from_mode(mode);
        fs::set_permissions(files.path("working"), allow).unwrap();

        let (args, used) = files.node_up("");

        assert_eq!(args.node_seed, None);
        assert!(used.notes[0].contains("chmod go-w"), "{:?}", used.notes);
    }
    let foreign = Files::new().with("working", r#"{"port":1,"logger":{"level":"info"}}"#);
    let allow = fs::Permissions::from_mode(0o664);
    fs::set_permissions(foreign.path("working"), allow).unwrap();
    assert!(foreign.node_up("").1.notes.is_empty());
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let files = Files::new().with("working", r#"{"node_seed":"SN"}"#);
    std::os::unix::fs::chown(files.path("working"), Some(65534), None).unwrap();
    assert_eq!(files.node_up("").0.node_seed, None);
}

#[test]
fn a_nexlet_that_its_node_started_reads_no_files() {
    let files = Files::new().with("user", "broken");

    assert!(files.parse("nexlet run js --data-dir /d").is_ok());
    assert!(files.parse("nexlet run js --remote --nexus n").is_err());
    assert!(files.parse("completions bash").is_ok());
}

#[test]
fn what_was_typed_wrongly_is_told_before_any_file_is_read() {
    let files = Files::new().with("user", "broken");

    for line in [
        "node up --auction-ttl 5",
        "node up --nowhere",
        "node up --help",
    ] {
        assert!(
            matches!(files.parse(line), Err(Misunderstood::Line(_))),
            "{line}"
        );
    }
}

#[test]
fn a_file_in_the_right_place_is_found() {
    let env = crate::environment::Environment::fake("/home/ann", &[]);
    let moved = [("XDG_CONFIG_HOME", "/c")];
    let moved = crate::environment::Environment::fake("/home/ann", &moved);

    let files = env.config_files();

    assert_eq!(files.system, Path::new("/etc/nex/config.json"));
    assert_eq!(
        files.user.unwrap(),
        Path::new("/home/ann/.config/nex/config.json")
    );
    assert_eq!(
        moved.config_files().user.unwrap(),
        Path::new("/c/nex/config.json")
    );
}

#[test]
fn every_flag_of_a_node_of_go_is_taken_from_its_file() {
    let files = Files::new().with(
        "system",
        r#"{
            "agents": [
                {"uri": "file:///opt/a", "argv": ["-v"], "env": {"A": "b"}},
                {"uri": "/opt/b"}
            ],
            "agent_restart_limit": 3, "disable_native_start": true,
            "allow_remote_agent_registration": true, "show_workload_logs": true,
            "nexus": "lab", "node_name": "n1", "node_seed": "SN", "node_xkey_seed": "SX",
            "resource_directory": "/var/lib/nex", "tags": {"a": "b"}, "state": "kv",
            "events": "nats", "auction_ttl": "5s",
            "issuer_signing_key": "SA", "issuer_signing_key_root_account": "A",
            "namespace": "shop", "disable_upgrade_check": true, "json": true,
            "logger": {
                "target": ["std"], "level": "warn", "color": true, "short": true,
                "with_pid": true, "group_on_right": false, "line_info": true, "timefmt": "RFC3339"
            },
            "nats": {
                "servers": ["nats://a:1"], "creds_file": "/c", "tlscert": "/c.pem",
                "tlskey": "/k.pem", "tlsca": "/ca.pem", "tlsfirst": true, "jsdomain": "hub",
                "conn_name": "me", "timeout": "5s"
            }
        }"#,
    );

    let (args, used) = files.node_up("");

    assert!(used.remarks.is_empty(), "{:?}", used.remarks);
    let agents = &args.agents.agents;
    assert_eq!(agents.len(), 2, "{agents:?}");
    assert_eq!(agents[0].env, [("A".to_owned(), "b".to_owned())]);
    assert_eq!(agents[1].program, Path::new("/opt/b"));
    assert_eq!(args.agents.agent_restart_limit, Some(3));
    assert!(args.agents.disable_native_start);
    assert_eq!(args.node_name.as_deref(), Some("n1"));
    let nats = files.nats("node up");
    assert_eq!(nats.conn_name.as_deref(), Some("me"));
    assert!(nats.tlsfirst && nats.tlskey == Some("/k.pem".into()));
    let one = Files::new().with("user", r#"{"agents":{"uri":"/opt/a"}}"#);
    assert_eq!(one.node_up("").0.agents.agents.len(), 1);
    let refused = Files::new().with("user", r#"{"agents":[{"uri":"nats://b/n"}]}"#);
    let refused = refused.refused("node up");
    assert!(
        refused.contains("`agents`") && refused.contains("no program of this machine"),
        "{refused}"
    );
}
