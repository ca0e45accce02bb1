//! What a person sees on a terminal of 80 columns: lists, `status`, `service`, and `config check`.

use std::io::{Read, Write};
use std::net::TcpStream;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use unicode_width::UnicodeWidthStr;

use test_support::canary::Canary;
use test_support::cli::Cli;
use test_support::finished::finished;
use test_support::pty::Terminal;

const COLUMNS: usize = 80;

/// The output on a terminal, without colours.
fn screen(cli: &Cli, words: &[&str]) -> String {
    let mut command = cli.command(words);
    command.env("NO_COLOR", "1");
    let (code, text) = Terminal::narrow(command).ends();
    assert_eq!(code, Some(0), "{words:?}: {text}");
    text.replace("\r\n", "\n")
}

/// Names of 20 characters in every list. The connection's key is a canary.
fn crowded(cli: &Cli, canary: &Canary) -> String {
    let key = cli.file("key", &canary.text);
    let token = cli.file("token", "kwa-a-token-of-an-agent-0123456789");
    let signing = cli.file("signing", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    for file in [&key, &token, &signing] {
        std::fs::set_permissions(file, std::fs::Permissions::clone(&private)).expect("our file");
    }
    format!(
        "connections:\n  - {{ name: a-connection-with-20, provider: github, fields: {{ token: {{ file: {key} }} }} }}\n\
         agents:\n  - {{ name: an-agent-with-20-let, token: {{ file: {token} }}, \
         use: [a-connection-with-20], labels: {{ a-label-with-20-lett: a-value-with-20-lett }} }}\n\
         rules:\n  - {{ name: a-rule-with-20-lette, agents: [an-agent-with-20-let], \
         hosts: [uploads.github.com, api.github.com], methods: [DELETE, PATCH], \
         paths: [/repos/**, /orgs/**], action: deny }}\n\
         webhooks:\n  - {{ name: a-webhook-with-20-le, url: \"https://hooks.of-a-long-name.example/keyward/events\", \
         signing_key: {{ file: {signing} }} }}\n\
         honeytokens:\n  - {{ name: a-honeytoken-with-20, provider: github }}\n",
        key = key.display(),
        token = token.display(),
        signing = signing.display(),
    )
}

/// A request to a host that is not allowed.
fn refused_request(cli: &Cli) {
    let status = cli.run(&["--json", "status"]).json();
    let proxy = status["gateway"]["proxy"][0].as_str().expect("an address").to_owned();
    let mut stream = TcpStream::connect(proxy).expect("the proxy listens");
    let login = BASE64_STANDARD.encode("an-agent-with-20-let:kwa-a-token-of-an-agent-0123456789");
    let host = "files.of-a-long-name.example:443";
    write!(stream, "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Basic {login}\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("default_deny"), "{answer}");
}

#[test]
fn no_list_is_wider_than_a_terminal_of_80_columns() {
    let cli = Cli::new();
    let canary = Canary::new("ghp_");
    let _gateway = cli.serve_with(&crowded(&cli, &canary));
    refused_request(&cli);
    for words in [
        &["agent", "list"][..],
        &["agent", "show", "an-agent-with-20-let"],
        &["connection", "list"],
        &["rule", "list"],
        &["provider", "list"],
        &["webhook", "list"],
        &["webhook", "events"],
        &["honeytoken", "list"],
        &["app", "list"],
        &["user", "list"],
        &["token", "list"],
        &["org", "list"],
        &["key", "list"],
        &["plugin", "list"],
        &["plan"],
        &["status"],
    ] {
        let text = screen(&cli, words);
        canary.assert_absent("a list", text.as_bytes());
        // A line to paste is never cut.
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("export "));
        let wide: Vec<_> = lines.filter(|line| line.width() > COLUMNS).collect();
        assert!(wide.is_empty(), "{words:?}: {wide:#?}");
    }
    let narrow = screen(&cli, &["agent", "list"]);
    assert!(!narrow.contains("agt_"), "{narrow}");
    assert!(screen(&cli, &["agent", "list", "--wide"]).contains("agt_"));
    assert!(cli.run(&["agent", "list"]).ok().contains("agt_"), "a pipe gets everything");
}

#[test]
fn status_shows_the_installation_on_one_screen() {
    let cli = Cli::new();
    let canary = Canary::new("ghp_");
    {
        let _gateway = cli.serve_with(&crowded(&cli, &canary));
        refused_request(&cli);
        cli.run(&["rule", "remove", "nothing", "--yes"]).failed(5);
        let text = screen(&cli, &["status"]);
        for part in [
            "gateway       ready, version ",
            "connections   1: 1 active\n",
            "agents        an-agent-with-20-let\n",
            "\nlast refusals\n",
            "default_deny",
            "CONNECT files.of-a-long",
        ] {
            assert!(text.contains(part), "no `{part}` in:\n{text}");
        }
        assert!(
            !text.contains("not_found"),
            "refused commands are not requests of agents:\n{text}"
        );
        assert!(text.lines().count() <= 24, "{text}");
        canary.assert_absent("status", text.as_bytes());
    }
    // The gateway has ended; the store is read.
    let text = cli.run(&["status"]).ok();
    assert!(text.contains("gateway       not running: `keyward --data "), "{text}");
    assert!(text.contains("connections   1: 1 active\n"), "{text}");
}

#[test]
fn the_unit_of_a_service_is_replaced_only_with_force() {
    let cli = Cli::new();
    let root = tempfile::tempdir().expect("a directory");
    let root_text = root.path().to_str().expect("UTF-8");
    let unit = root.path().join("etc/systemd/system/keyward.service");
    let install = ["service", "install", "--system", "--manager", "systemd", "--root", root_text];
    assert!(cli.run(&install).ok().contains("keyward.service written\n"));
    let text = std::fs::read_to_string(&unit).expect("the unit");
    let data = cli.data();
    assert!(text.contains(&format!("--data {}\n", data.display())), "{text}");
    assert!(text.contains("\nDynamicUser=yes\n"), "{text}");
    assert!(cli.run(&install).ok().contains("is there already\n"));
    let other = [&install[..], &["--credential", "master.key=/etc/keyward/master.key"]].concat();
    let refused = cli.run(&other).failed(1);
    assert!(refused.contains("has other content") && refused.contains("--force"), "{refused}");
    assert_eq!(std::fs::read_to_string(&unit).expect("the unit"), text);
    cli.run(&[&other[..], &["--force"]].concat()).ok();
    let forced = std::fs::read_to_string(&unit).expect("the unit");
    assert!(forced.contains("\nLoadCredential=master.key:/etc/keyward/master.key\n"), "{forced}");
    let uninstall =
        ["service", "uninstall", "--system", "--manager", "systemd", "--root", root_text];
    cli.run(&uninstall).ok();
    assert!(!unit.exists());
    assert!(cli.run(&uninstall).failed(5).contains("there is no service"));
    assert!(!data.exists(), "a service's file needs no data directory");
}

#[test]
fn a_credential_of_a_service_is_a_file_with_an_absolute_path() {
    let cli = Cli::new();
    let install = ["service", "install", "--system", "--manager", "systemd", "--print"];
    let missing = cli.run(&[&install[..], &["--credential", "key=/nowhere/key"]].concat());
    let refused = missing.failed(1);
    assert!(refused.contains("there is no file /nowhere/key for credential key"), "{refused}");
    let relative = ["--root", "/image", "--credential", "key=some.key"];
    let unit = cli.run(&[&install[..], &relative].concat()).ok();
    let file = std::path::absolute("some.key").expect("a path");
    assert!(unit.contains(&format!("\nLoadCredential=key:{}\n", file.display())), "{unit}");
}

#[test]
fn a_failed_uninstall_of_a_service_names_no_option_that_uninstall_lacks() {
    let cli = Cli::new();
    let home = tempfile::tempdir().expect("a directory");
    let unit = home.path().join("systemd/user/keyward.service");
    std::fs::create_dir_all(unit.parent().expect("a folder")).expect("folders");
    std::fs::write(&unit, "").expect("a file");
    let mut command = cli.command(&["service", "uninstall", "--user", "--manager", "systemd"]);
    // No program `systemctl` is found.
    command.env("XDG_CONFIG_HOME", home.path()).env("PATH", home.path());
    let refused = finished(command, "").failed(1);
    let by_hand = format!("or remove {} by hand", unit.display());
    assert!(refused.contains(&by_hand) && !refused.contains("--no-start"), "{refused}");
    assert!(unit.exists());
}

#[test]
fn a_configuration_is_checked_without_its_secrets_and_without_a_data_directory() {
    let cli = Cli::new();
    let bad = cli.file(
        "bad.yaml",
        "agents:\n  - { name: ci, use: [work], labels: 7 }\nconnections:\n  - { name: work, provider: githup }\n",
    );
    let bad = bad.to_str().expect("UTF-8");
    let refused = cli.run(&["config", "check", bad]).failed(1);
    assert!(refused.contains("bad.yaml:2: agents[0].labels"), "{refused}");
    assert!(refused.contains("did you mean `github`?"), "{refused}");
    let json = cli.run(&["--json", "config", "check", bad]);
    assert_eq!(json.code, 1);
    let problems: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(problems["problems"].as_array().map(Vec::len), Some(2), "{problems}");
    let good = cli.file(
        "good.yaml",
        "connections:\n  - { name: work, provider: github, fields: { token: { env: NOT_SET } } }\n\
         agents:\n  - { name: ci, use: [work] }\n",
    );
    let good = good.to_str().expect("UTF-8");
    assert!(cli.run(&["config", "check", good]).ok().ends_with("good.yaml is valid\n"));
    assert!(cli.run(&["plan", good]).failed(1).contains("NOT_SET"), "a plan needs them");
    let absent = cli.run(&["config", "check", "/nowhere.yaml"]).failed(1);
    assert!(absent.contains("/nowhere.yaml"), "{absent}");
    assert!(absent.ends_with("\nhint: name a file that exists\n"), "{absent}");
    let folder = cli.run(&["config", "check", "/"]).failed(1);
    assert!(folder.ends_with("\nhint: name the file in it, such as keyward.yaml\n"), "{folder}");
    assert!(!cli.data().exists());
}

/// A configuration and a store are used together, so such a file starts.
#[test]
fn a_name_that_the_store_may_have_does_not_make_a_file_invalid() {
    let cli = Cli::new();
    let agents = "agents:\n  - { name: ci, use: [acme] }\n";
    let lacking = "rules:\n  - { name: r, actions: [github:nope], action: deny }\n";
    let wrong = cli.file("wrong.yaml", &format!("{agents}{lacking}"));
    let refused = cli.run(&["config", "check", wrong.to_str().expect("UTF-8")]).failed(1);
    assert!(refused.contains("wrong.yaml:2: agents[0]: connection `acme` is not in"), "{refused}");
    assert!(refused.contains("provider `github` has no action `nope`"), "{refused}");
    let rules = "rules:\n  - { name: r, agents: [bot], hosts: [x.test], action: deny }\n";
    let mixed = cli.file("mixed.yaml", &format!("{agents}{rules}"));
    let mixed = mixed.to_str().expect("UTF-8");
    let ran = cli.run(&["config", "check", mixed]);
    assert_eq!((ran.code, &*ran.out), (0, &*format!("{mixed} is valid\n")), "{ran:?}");
    for note in [
        "mixed.yaml:2: agents[0]: connection `acme` is not in this file\n",
        "mixed.yaml:4: rules[0]: agent `bot` is not in this file\n",
        "note: the store may have them: `keyward plan ",
    ] {
        assert!(ran.err.contains(note), "{ran:?}");
    }
    assert!(!ran.err.contains("would refuse"), "{ran:?}");
    let json = cli.run(&["--json", "config", "check", mixed]).json();
    assert_eq!(json["problems"], serde_json::json!([]), "{json}");
    assert_eq!(json["not_in_file"][0]["line"], 2, "{json}");
    assert!(cli.run(&["plan", mixed]).failed(1).contains("`acme`, which does not exist"));
    assert!(!cli.data().exists());
}

#[test]
fn a_file_that_does_not_exist_is_not_valid() {
    let cli = Cli::new();
    let ran = cli.run(&["config", "check"]);
    assert_eq!((ran.code, &*ran.out), (1, ""), "{ran:?}");
    let file = cli.data().join("keyward.yaml").display().to_string();
    assert!(
        ran.err.contains(&format!("error: there is no configuration file, {file}\n")),
        "{ran:?}"
    );
    assert!(ran.err.contains("hint: name it: `keyward config check FILE`\n"), "{ran:?}");
    assert!(cli.run(&["config", "check", "/nowhere.yaml"]).failed(1).contains("/nowhere.yaml"));
}
