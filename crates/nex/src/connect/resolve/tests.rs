use super::*;

/// A machine with the context `prod`, one nkey file, and perhaps a `nex up`.
struct Fake {
    up: bool,
    phase: Phase,
    replaced: bool,
}

impl Fake {
    fn ready(up: bool) -> Self {
        Self {
            up,
            phase: Phase::Ready,
            replaced: false,
        }
    }
}

impl Outside for Fake {
    fn place(&self, _key: &str, flag: &str) -> String {
        format!("`{flag}`")
    }

    fn context(&self, name: &str) -> Result<ConnectOptions, CommandError> {
        if name != "prod" {
            return Err(CommandError::usage("no such context"));
        }
        Ok(ConnectOptions {
            servers: vec!["nats://prod:4222".into()],
            auth: Auth::CredsFile("/prod.creds".into()),
            ..ConnectOptions::default()
        })
    }

    fn read(&self, _path: &Path) -> io::Result<String> {
        Ok("SUSEED\n".into())
    }

    fn running(&self) -> Result<Option<Up>, CommandError> {
        Ok(self.known().pop())
    }

    fn known(&self) -> Vec<Up> {
        let up = Up {
            data_dir: "/up".into(),
            phase: self.phase.clone(),
            access: Some(UpAccess {
                url: "nats://127.0.0.1:5000".into(),
                creds: "/up/cli.creds".into(),
            }),
        };
        let default = Up {
            data_dir: "/default".into(),
            access: Some(UpAccess {
                url: DEFAULT_SERVER.into(),
                creds: "/default/cli.creds".into(),
            }),
            ..up.clone()
        };
        if self.up {
            vec![default, up]
        } else {
            Vec::new()
        }
    }

    fn is_replaced(&self, _up: &Up) -> bool {
        self.replaced
    }

    fn addresses(&self, host: &str) -> Vec<IpAddr> {
        let ips: &[&str] = match host.to_ascii_lowercase().as_str() {
            "localhost" | "localhost." => &["::1", "127.0.0.1"],
            "127.1" | "2130706433" => &["127.0.0.1"],
            "me" => &["127.0.1.1"],
            "far" => &["192.0.2.1"],
            "both" => &["127.0.0.1", "192.0.2.1"],
            _ => &[],
        };
        ips.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    fn listens(&self, address: SocketAddr) -> bool {
        address.port() == 4222 || address.ip().to_string() == "127.0.0.2"
    }
}

fn found(flags: &[&str], variables: &[(&str, &str)], up: bool) -> Found {
    match resolved(flags, variables, &Fake::ready(up)) {
        Resolved::Found(found) => *found,
        Resolved::NotReady(up) => panic!("{up:?}"),
    }
}

fn resolved(flags: &[&str], variables: &[(&str, &str)], machine: &Fake) -> Resolved {
    use clap::Parser as _;
    let line = ["nex", "events"].iter().chain(flags);
    let cli = crate::cli::Cli::try_parse_from(line).unwrap();
    let env = Environment::fake("/home/ann", variables);
    resolve(&cli.global.nats, &env, machine).unwrap()
}

fn summary(found: &Found) -> (String, Auth) {
    (found.options.servers.join(","), found.options.auth.clone())
}

fn creds(path: &str) -> Auth {
    Auth::CredsFile(path.into())
}

#[test]
fn each_source_comes_before_the_next() {
    let url = ("NATS_URL", "nats://env:1, nats://env:2");
    let by_flag = found(&["-s", "nats://flag:1"], &[url], true);
    let by_variable = found(&[], &[url], true);
    let by_up = found(&[], &[], true);
    let by_default = found(&[], &[], false);

    assert_eq!(summary(&by_flag), ("nats://flag:1".into(), Auth::None));
    assert_eq!(by_flag.origin, Origin::Flag);
    assert_eq!(
        summary(&by_variable),
        ("nats://env:1,nats://env:2".into(), Auth::None)
    );
    assert_eq!(
        summary(&by_up),
        ("nats://127.0.0.1:5000".into(), creds("/up/cli.creds"))
    );
    assert_eq!(by_up.origin, Origin::Up("/up".into()));
    assert_eq!(summary(&by_default), (DEFAULT_SERVER.into(), Auth::None));
    assert_eq!(by_default.origin, Origin::Default);
}

#[test]
fn a_context_by_flag_stands_above_the_variables() {
    let variables = [("NATS_URL", "nats://env:1"), ("NATS_CREDS", "/env.creds")];
    let by_flag = found(&["--nats.context", "prod"], &variables, true);
    let by_variable = found(&[], &[("NATS_CONTEXT", "prod"), variables[0]], true);

    assert_eq!(
        summary(&by_flag),
        ("nats://prod:4222".into(), creds("/prod.creds"))
    );
    assert_eq!(by_flag.origin, Origin::Context("prod".into()));
    assert_eq!(
        summary(&by_variable),
        ("nats://env:1".into(), creds("/prod.creds"))
    );
}

#[test]
fn an_address_by_flag_gets_no_credentials_of_an_exported_context() {
    let found = found(&["-s", "nats://flag:1"], &[("NATS_CONTEXT", "prod")], true);
    assert_eq!(summary(&found), ("nats://flag:1".into(), Auth::None));
}

#[test]
fn an_address_may_say_who_we_are() {
    let user = |user: &str| Auth::UserPassword {
        user: user.into(),
        password: "s3".into(),
    };
    let exported = [("NATS_CREDS", "/env.creds")];
    let by_url = found(&["-s", "nats://ann:s3@flag:1"], &exported, true);
    let flags = ["-s", "nats://ann:s3@flag:1", "--creds", "/flag.creds"];
    let by_flag = found(&flags, &exported, true);
    let by_variable = found(&[], &[("NATS_URL", "nats://bob:s3@env:1")], true);

    assert_eq!(summary(&by_url), ("nats://flag:1".into(), user("ann")));
    assert_eq!(
        summary(&by_flag),
        ("nats://flag:1".into(), creds("/flag.creds"))
    );
    assert_eq!(summary(&by_variable), ("nats://env:1".into(), user("bob")));
}

#[test]
fn the_address_of_nex_up_gets_its_credentials_however_it_is_written() {
    let own = ("nats://127.0.0.1:5000".to_owned(), creds("/up/cli.creds"));
    for address in [
        "nats://127.0.0.1:5000",
        "127.0.0.1:5000",
        "nats://localhost:5000",
        "LocalHost:5000",
        "nats://[::1]:5000",
        "localhost.:5000",
        "127.1:5000",
        "2130706433:5000",
        "0.0.0.0:5000",
        "[::]:5000",
        "[0:0:0:0:0:0:0:1]:5000",
        "nats://[::ffff:127.0.0.1]:5000",
        "me:5000",
        "127.0.1.1:5000",
        "nats://127.0.0.1:5000/",
        " nats://127.0.0.1:5000",
        "nats://far:1,nats://localhost:5000",
        "localhost:5000,nats://127.0.0.1:5001",
    ] {
        let by_flag = found(&["-s", address], &[], true);
        assert_eq!(summary(&by_flag), own, "{address}");
        assert_eq!(by_flag.options.inbox_prefix.as_deref(), Some(PRIVATE_INBOX));
        let by_variable = found(&[], &[("NATS_URL", address)], true);
        assert_eq!(summary(&by_variable), own, "{address}");
    }
    let default = (DEFAULT_SERVER.to_owned(), creds("/default/cli.creds"));
    for address in ["localhost", "127.0.0.1", "nats://localhost"] {
        assert_eq!(
            summary(&found(&["-s", address], &[], true)),
            default,
            "{address}"
        );
    }
}

#[test]
fn a_nex_up_that_is_not_ready_is_waited_for_however_it_is_named() {
    let url = "nats://localhost:5000";
    for phase in [
        Phase::Starting,
        Phase::Restarting("it died".into()),
        Phase::Stopping,
        Phase::Stopped,
        Phase::Killed,
    ] {
        let machine = |replaced| Fake {
            up: true,
            phase: phase.clone(),
            replaced,
        };
        for (flags, variables) in [
            (&[][..], &[][..]),
            (&["-s", url], &[]),
            (&[], &[("NATS_URL", url)]),
        ] {
            let Resolved::NotReady(up) = resolved(flags, variables, &machine(false)) else {
                panic!("{phase:?} {flags:?} {variables:?}");
            };
            assert_eq!(up.data_dir, Path::new("/up"));
        }
        // Another server on that address is reached, without credentials of ours.
        let Resolved::Found(other) = resolved(&["-s", url], &[], &machine(true)) else {
            panic!("{phase:?}");
        };
        assert_eq!(summary(&other), (url.to_owned(), Auth::None));
    }
}

#[test]
fn no_other_address_gets_the_credentials_of_nex_up() {
    for address in [
        "nats://127.0.0.1:5001",
        "nats://far:5000",
        "nats://unknown:5000",
        "nats://both:5000",
        "nats://192.0.2.1:5000",
        "nats://[::ffff:192.0.2.1]:5000",
        "nats://localhost.example:5000",
        "tls://127.0.0.1:5000",
        "ws://127.0.0.1:5000",
        // Another server listens there.
        "nats://127.0.0.2:5000",
        "nats://me:4222",
        "nats://[::1]:4222",
    ] {
        let found = found(&["-s", address], &[], true);
        assert_eq!(
            summary(&found),
            (address.to_owned(), Auth::None),
            "{address}"
        );
        assert_eq!(found.options.inbox_prefix, None);
    }
}

#[test]
fn explicit_credentials_win_at_the_address_of_nex_up() {
    let url = "nats://127.0.0.1:5000";
    let by_flag = found(&["-s", url, "--creds", "/my.creds"], &[], true);
    let by_variable = found(&["-s", url], &[("NATS_CREDS", "/my.creds")], true);
    let in_url = found(&["-s", "nats://ann:s3@127.0.0.1:5000"], &[], true);

    for found in [&by_flag, &by_variable] {
        assert_eq!(summary(found), (url.to_owned(), creds("/my.creds")));
    }
    assert!(matches!(in_url.options.auth, Auth::UserPassword { .. }));
    for found in [by_flag, by_variable, in_url] {
        assert_eq!(found.options.inbox_prefix, None);
        assert_eq!(found.up.as_deref(), Some(Path::new("/up")));
    }
}

#[test]
fn credentials_alone_go_to_what_runs_here() {
    let found = found(&["--creds", "/my.creds"], &[], true);
    assert_eq!(
        summary(&found),
        ("nats://127.0.0.1:5000".into(), creds("/my.creds"))
    );
}

#[test]
fn only_the_owner_of_nex_up_has_private_inboxes() {
    let prefix = |flags: &[&str], variables: &[(&str, &str)]| {
        found(flags, variables, true).options.inbox_prefix
    };

    assert_eq!(prefix(&[], &[]).as_deref(), Some(PRIVATE_INBOX));
    // Others may not listen on them.
    assert_eq!(prefix(&["--creds", "/my.creds"], &[]), None);
    assert_eq!(prefix(&[], &[("NATS_URL", "nats://127.0.0.1:5001")]), None);
}

#[test]
fn every_way_to_say_who_we_are_is_understood() {
    let seed = || "SUSEED".to_owned();
    let token = |text: &str| Auth::Token(text.into());
    let password = || Auth::UserPassword {
        user: "u".into(),
        password: "p".into(),
    };
    let flags = [
        (vec!["--nats.seed", "SUSEED"], Auth::Nkey { seed: seed() }),
        (
            vec!["--nats.seed", "SUSEED", "--nats.jwt", "eyJ"],
            Auth::Jwt {
                jwt: "eyJ".into(),
                seed: seed(),
            },
        ),
        (vec!["--nats.user", "u", "--nats.password", "p"], password()),
        (vec!["--nats.user", "t"], token("t")),
    ];
    for (flags, auth) in flags {
        assert_eq!(found(&flags, &[], false).options.auth, auth, "{flags:?}");
    }
    let variables = [
        (vec![("NATS_CREDS", "/c")], creds("/c")),
        (vec![("NATS_NKEY", "/seed")], Auth::Nkey { seed: seed() }),
        (vec![("NATS_USER", "u"), ("NATS_PASSWORD", "p")], password()),
        (vec![("NATS_USER", "t")], token("t")),
        (vec![("NATS_TOKEN", "t")], token("t")),
    ];
    for (variables, auth) in variables {
        assert_eq!(
            found(&[], &variables, false).options.auth,
            auth,
            "{variables:?}"
        );
    }
}

#[test]
fn a_list_of_servers_may_have_commas_to_spare() {
    for list in ["nats://a:1,nats://b:2,", " nats://a:1 , ,nats://b:2 "] {
        let by_flag = found(&["-s", list], &[], false);
        let by_variable = found(&[], &[("NATS_URL", list)], false);
        for found in [by_flag, by_variable] {
            assert_eq!(summary(&found).0, "nats://a:1,nats://b:2", "{list}");
        }
    }
    for list in ["", ",", " "] {
        let flags = NatsArgs {
            servers: list.split(',').map(str::to_owned).collect(),
            ..NatsArgs::default()
        };
        let error = resolve(&flags, &Environment::fake("/", &[]), &Fake::ready(true));
        let text = error.unwrap_err().text();
        assert!(text.contains("`-s` names no server"), "{text}");
    }
    for list in [",", " ", " , "] {
        let env = Environment::fake("/", &[("NATS_URL", list)]);
        let error = resolve(&NatsArgs::default(), &env, &Fake::ready(true)).unwrap_err();
        let text = error.text();
        assert!(text.contains("`NATS_URL` names no server"), "{text}");
    }
}

#[test]
fn variables_may_begin_at_home() {
    let variables = [
        ("NATS_CREDS", "~/k.creds"),
        ("NATS_CA", "~/ca.pem"),
        ("NATS_CERT", "~"),
        ("NATS_KEY", "/k"),
    ];
    let options = found(&[], &variables, false).options;
    assert_eq!(options.auth, creds("/home/ann/k.creds"));
    assert_eq!(options.tls.ca, Some("/home/ann/ca.pem".into()));
    assert_eq!(options.tls.cert, Some("/home/ann".into()));
    assert_eq!(options.tls.key, Some("/k".into()));
}

#[test]
fn a_context_that_is_not_there_is_an_error() {
    let flags = NatsArgs {
        context: Some("nowhere".into()),
        ..NatsArgs::default()
    };
    assert!(resolve(&flags, &Environment::fake("/", &[]), &Fake::ready(true)).is_err());
}
