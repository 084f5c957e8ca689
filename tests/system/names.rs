//! Files whose names come out the same: none silently takes the place of another one's workload.

use std::{fs, path::Path};

use nex_testkit::NexUp;
use serde_json::{Value, json};

use crate::{devrun, list, refusals::refused, script};

/// Writes a function that answers with a text, and deploys it.
fn deploy(up: &NexUp, path: &Path, subject: &str, answer: &str) -> nex_testkit::Output {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("(subject, payload) => ({answer:?});\n")).unwrap();
    up.nex(&[
        "devrun",
        path.to_str().unwrap(),
        "--trigger-subject",
        subject,
    ])
}

/// Deploys a function as `nex devrun` does, without looking for others of its name.
fn deploy_unseen(up: &NexUp, path: &Path, subject: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "(subject, payload) => payload").unwrap();
    let machine = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let source = format!("{}:{}", machine.trim(), path.display());
    let request = json!({
        "uri": format!("file://{}", path.display()),
        "triggers": [{ "subject": subject }],
    });
    let start = json!({
        "description": "",
        "metadata": { "nex.source": source, "nex.source.path": source },
        "name": "index",
        "namespace": "default",
        "run_request": request.to_string(),
        "tags": null,
        "workload_lifecycle": "function",
        "workload_type": "js",
    });
    let ask = |subject: &str, body: &Value| {
        let reply = up.nex(&["req", subject, &body.to_string()]).ok().stdout;
        serde_json::from_str::<Value>(&reply).unwrap()
    };
    let auction = json!({ "agent_type": "js", "auction_id": "a", "tags": null });
    let bid = ask("$NEX.SVC.default.control.AUCTION", &auction);
    let bid = bid["bidder_id"].as_str().unwrap();
    ask(&format!("$NEX.SVC.default.control.ADEPLOY.{bid}"), &start);
}

fn names(up: &NexUp) -> Vec<String> {
    let mut names: Vec<String> = list(up)
        .iter()
        .map(|each| each["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn files_of_other_scripts_have_names_of_their_own() {
    let up = NexUp::start();
    let home = up.home().path().to_owned();

    deploy(&up, &home.join("注文.js"), "order", "order").ok();
    deploy(&up, &home.join("請求.js"), "bill", "bill").ok();

    assert_eq!(names(&up), ["注文", "請求"]);
    assert_eq!(up.nex(&["req", "order", ""]).ok().stdout.trim(), "order");
    assert_eq!(up.nex(&["req", "bill", ""]).ok().stdout.trim(), "bill");
}

#[test]
fn another_file_does_not_silently_replace_a_workload() {
    let up = NexUp::start();
    let home = up.home().path().to_owned();
    let long = "x".repeat(70);
    for (first, second) in [
        ("a b.js", "a-b.js"),
        ("one/index.js", "two/index.js"),
        ("🚀.js", "🎉.js"),
        (&*format!("{long}1.js"), &*format!("{long}2.js")),
        ("same.js", "same.mjs"),
    ] {
        let (first, second) = (home.join(first), home.join(second));
        deploy(&up, &first, "first", "first").ok();

        let source = format!("export default () => {:?}", "second");
        fs::create_dir_all(second.parent().unwrap()).unwrap();
        fs::write(&second, source).unwrap();
        let path = second.to_str().unwrap();
        let second = ["devrun", path, "--trigger-subject", "second"];
        let output = up.nex(&second);

        let name = names(&up);
        let [name] = &name[..] else {
            panic!("{name:?}");
        };
        let typed = format!("`--name {name}`");
        let first = first.to_str().unwrap();
        refused(output, 1, &["another file", first, "`--name NAME`", &typed]);
        assert_eq!(up.nex(&["req", "first", ""]).ok().stdout.trim(), "first");

        up.nex(&[&second[..], &["--name", "beside"]].concat()).ok();
        assert_eq!(list(&up).len(), 2);
        let replaced = up.nex(&[&second[..], &["--name", name]].concat()).ok();
        assert!(replaced.stdout.contains("It replaces ["), "{replaced}");
        for stopped in ["beside", name] {
            up.nex(&["workload", "stop", stopped]).ok();
        }
    }
}

#[test]
fn a_program_and_a_function_of_one_name_are_of_two_files() {
    let up = NexUp::start();
    let home = up.home();
    deploy(&up, &home.path().join("web.js"), "web", "web").ok();
    let program = script(home, "web.sh", "exec sleep 1000");

    let output = up.nex(&["devrun", program.to_str().unwrap()]);

    refused(output, 1, &["another file", "web.js", "`--name NAME`"]);
}

#[test]
fn the_same_file_replaces_itself_from_everywhere() {
    let up = NexUp::start();
    let path = up.home().path().join("greet.js");
    deploy(&up, &path, "greet", "first").ok();
    fs::write(&path, "(s, p) => 'second'").unwrap();
    let link = up.home().path().join("link");
    fs::create_dir(&link).unwrap();
    std::os::unix::fs::symlink(&path, link.join("greet.js")).unwrap();

    let replaced = devrun(&up, &link.join("greet.js"), &["--trigger-subject", "greet"]);

    assert!(replaced.stdout.contains("It replaces ["), "{replaced}");
    assert_eq!(up.nex(&["req", "greet", ""]).ok().stdout.trim(), "second");
}

#[test]
fn what_another_command_started_is_not_replaced_either() {
    let up = NexUp::start();
    let request = r#"{"uri":"file:///bin/sleep","argv":["1000"]}"#;
    let start = ["workload", "start", "--name", "web", "--start-request"];
    up.nex(&[&start[..], &[request]].concat()).ok();
    let program = script(up.home(), "web.sh", "exec sleep 1000");
    let program = program.to_str().unwrap();

    let output = up.nex(&["devrun", program]);

    refused(output, 1, &["no `nex devrun`", "`--name web`"]);
    up.nex(&["devrun", program, "--name", "web"]).ok();
    assert_eq!(names(&up), ["web"]);
}

#[test]
fn a_release_link_with_another_target_is_the_same_file() {
    let up = NexUp::start();
    let home = up.home().path().to_owned();
    let current = home.join("current");
    for version in ["v1", "v2", "v3"] {
        let folder = home.join(version);
        fs::create_dir(&folder).unwrap();
        let source = format!("(subject, payload) => ({version:?});\n");
        fs::write(folder.join("app.js"), source).unwrap();
        let _absent_at_first = fs::remove_file(&current);
        std::os::unix::fs::symlink(&folder, &current).unwrap();

        // The last one is typed in the folder of the link.
        let (folder, path) = match version {
            "v3" => (&current, "app.js"),
            _ => (&home, "./x/../current/app.js"),
        };
        fs::create_dir_all(home.join("x")).unwrap();
        let line = ["devrun", path, "--trigger-subject", "app"];
        let mut command = up.home().nex_command(&line).unwrap();
        command.current_dir(folder).env("PWD", folder);
        up.home().run(&mut command).unwrap().ok();

        assert_eq!(up.nex(&["req", "app", ""]).ok().stdout.trim(), version);
        assert_eq!(names(&up), ["app"]);
    }

    // The folder has moved: nothing says that it is the same file.
    fs::rename(home.join("v3"), home.join("v4")).unwrap();
    let moved = home.join("v4/app.js");
    let line = [
        "devrun",
        moved.to_str().unwrap(),
        "--trigger-subject",
        "app",
    ];
    refused(up.nex(&line), 1, &["another file"]);
}

#[test]
fn of_several_workloads_of_one_name_a_file_replaces_its_own() {
    let up = NexUp::start();
    let home = up.home().path().to_owned();
    let path = |folder: &str| home.join(folder).join("index.js");
    // A node may have several of one name, as of deploys while it did not answer.
    for folder in ["a", "b", "c"] {
        deploy_unseen(&up, &path(folder), folder);
    }
    assert_eq!(names(&up), ["index", "index", "index"]);

    for folder in ["a", "b", "c"] {
        let answer = format!("{folder}2");
        let replaced = deploy(&up, &path(folder), folder, &answer).ok();

        assert!(replaced.stdout.contains("It replaces ["), "{replaced}");
        assert_eq!(
            replaced.stderr.matches("stays: it came from").count(),
            2,
            "{replaced}"
        );
        assert_eq!(up.nex(&["req", folder, ""]).ok().stdout.trim(), answer);
        assert_eq!(names(&up), ["index", "index", "index"]);
    }
    let fourth = deploy(&up, &path("d"), "d", "d");
    refused(fourth, 1, &["another file", "`--name NAME`"]);
}

/// Runs two `nex devrun` at the same time.
fn deploy_both(up: &NexUp, lines: [&[&str]; 2]) -> [nex_testkit::Output; 2] {
    std::thread::scope(|scope| {
        let run = |line| scope.spawn(move || up.nex(&[&["devrun"][..], line].concat()));
        lines.map(run).map(|run| run.join().unwrap())
    })
}

#[test]
fn first_deploys_at_the_same_time_leave_one_of_a_name() {
    let up = NexUp::start();
    let home = up.home().path().to_owned();
    for round in 0..2 {
        let name = format!("f{round}.js");
        let paths = ["a", "b"].map(|folder| {
            let path = home.join(folder).join(&name);
            fs::create_dir_all(home.join(folder)).unwrap();
            fs::write(&path, format!("() => {folder:?}")).unwrap();
            path.to_str().unwrap().to_owned()
        });
        let [a, b] = paths.each_ref().map(|path| path.as_str());
        let named = format!("f{round}");
        let count = || names(&up).iter().filter(|it| **it == named).count();

        let both = deploy_both(
            &up,
            [
                &[a, "--trigger-subject", &named],
                &[b, "--trigger-subject", &named],
            ],
        );

        let (done, given_up): (Vec<_>, Vec<_>) = both.into_iter().partition(|it| it.code == 0);
        assert_eq!(
            (done.len(), given_up.len()),
            (1, 1),
            "{done:?} {given_up:?}"
        );
        for output in given_up {
            refused(
                output,
                1,
                &["a workload of another file has the name", "`--name NAME`"],
            );
        }
        assert_eq!(count(), 1, "{:?}", list(&up));

        // The later one of the same file, or of a typed name, replaces the other.
        up.nex(&["workload", "stop", &named]).ok();
        let line = [a, "--trigger-subject", &named];
        let typed = [b, "--trigger-subject", &named, "--name", &named];
        for lines in [[&line[..], &line], [&typed[..], &typed]] {
            for output in deploy_both(&up, lines) {
                output.ok();
            }
            assert_eq!(count(), 1, "{:?}", list(&up));
        }
        up.nex(&["workload", "stop", &named]).ok();
    }
}
