//! Rules with branches by command, and logins by SSH: what is refused, what `explain` says, and what a restart keeps.

use test_support::cli::Cli;

const KEY: &str = include_str!("../../crates/ssh/src/test_keys/ed25519");
const ENCRYPTED: &str = include_str!("../../crates/ssh/src/test_keys/encrypted");
const HOST_KEY: &str =
    "build.test ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGV/cYZYK5UoAm/dVzTiI4/wggCk8KqOjH+R7ODtCBOm\n";
const PUSH: &str = "https://github.com/o/r.git/git-receive-pack";

/// An explanation as JSON, whatever its exit code.
fn explained(cli: &Cli, arguments: &[&str]) -> serde_json::Value {
    let all = [&["--json", "explain"], arguments, &["--agent", "ci"]].concat();
    let ran = cli.run(&all);
    serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"))
}

#[test]
fn branch_limits_added_by_a_command_are_explained_and_survive_a_restart() {
    let cli = Cli::new();
    let serving = cli.serve();
    cli.run(&["agent", "add", "ci"]).ok();
    let new =
        ["connection", "add", "github", "--name", "work", "--no-test", "--secret-stdin", "token"];
    cli.run_with(&new, "ghp_0123456789abcdefghijklmnopqrstuvwxyz").ok();
    cli.run(&["agent", "bind", "ci", "work"]).ok();
    let add = ["rule", "add", "inject", "*", "--use", "work", "--agent", "ci", "--name", "own"];
    let refused = |more: &[&str]| cli.run(&[&add[..], more].concat()).failed(1);
    assert!(refused(&["--branch", "main"]).contains("limits pushes only"));
    let bad = refused(&["--named-action", "push", "--branch", "a..b"]);
    assert!(bad.contains("this is not the name of a branch"), "{bad}");
    let git = ["--named-action", "clone", "--named-action", "push", "--branch", "agent/*"];
    let said = cli.run(&[&add[..], &git].concat()).ok();
    assert!(said.contains("with pushes to agent/* only"), "{said}");
    let beyond = |told: &serde_json::Value| told["stopped_by"].to_string();
    let decides = |cli: &Cli| {
        let main = explained(cli, &["POST", PUSH, "--push", "main"]);
        assert!(beyond(&main).contains("allows pushes to agent/* only"), "{main}");
        assert_eq!(
            (&main["allowed"], &main["rule"]),
            (&false.into(), &"store:own".into()),
            "{main}"
        );
        let own = explained(cli, &["POST", PUSH, "--push", "agent/a"]);
        assert_eq!(
            (&own["action"], &own["rule"]),
            (&"inject".into(), &"store:own".into()),
            "{own}"
        );
        let deleted = explained(cli, &["POST", PUSH, "--push", ":agent/a"]);
        assert!(beyond(&deleted).contains("would delete `agent/a`"), "{deleted}");
        let unknown = explained(cli, &["POST", PUSH]);
        assert!(beyond(&unknown).contains("--push BRANCH"), "{unknown}");
    };
    decides(&cli);
    drop(serving);
    let _serving = cli.serve();
    decides(&cli);
    cli.run(&["rule", "edit", "own", "--delete-branches", "true"]).ok();
    let deleted = explained(&cli, &["POST", PUSH, "--push", ":agent/a"]);
    assert_eq!(deleted["action"], "inject", "{deleted}");
    let shown = cli.run(&["rule", "show", "own", "--json"]).json();
    assert_eq!(
        (&shown["branches"][0], &shown["delete_branches"]),
        (&"agent/*".into(), &true.into())
    );
}

#[test]
fn an_ssh_key_file_is_connected_and_explain_says_which_logins_it_signs() {
    let cli = Cli::new();
    let _serving = cli.serve();
    let key = cli.file("deploy_key", KEY);
    let encrypted = cli.file("encrypted_key", ENCRYPTED);
    let hosts = cli.file("hosts.txt", HOST_KEY);
    let known = format!("known_hosts={}", hosts.display());
    let (key, encrypted) = (key.to_str().expect("UTF-8"), encrypted.to_str().expect("UTF-8"));
    let connect = |words: &[&str]| {
        let rest = [
            "--field",
            "users=deploy",
            "--secret-file",
            &known,
            "--name",
            "deploy",
            "--agent",
            "ci",
        ];
        cli.run(&[&["connect"], words, &rest].concat())
    };
    let refused = connect(&["--key", encrypted]).failed(2);
    assert!(
        refused.contains("has a passphrase") && refused.contains("passphrase=FILE"),
        "{refused}"
    );
    let public = connect(&["--key", hosts.to_str().expect("UTF-8")]).failed(2);
    assert!(public.contains("this is not a private key"), "{public}");
    let foreign = connect(&["github", "--key", key]).failed(2);
    assert!(foreign.contains("--key is for SSH keys"), "{foreign}");
    let nothing = explained_without_keys(&cli);
    assert!(nothing.contains("the agent may use no SSH key"), "{nothing}");
    connect(&["--key", key]).ok();
    let signed = explained(&cli, &["ssh://deploy@build.test"]);
    assert_eq!((&signed["allowed"], &signed["method"]), (&true.into(), &"SIGN".into()), "{signed}");
    assert_eq!(signed["connection"]["name"], "deploy");
    for (login, why) in [
        ("ssh://root@build.test", "`root` is not one of `users`: deploy"),
        ("ssh://deploy@other.test", "`known_hosts` has no host key of other.test:22"),
        ("ssh://deploy@build.test:2222", "`known_hosts` has no host key of build.test:2222"),
    ] {
        let told = explained(&cli, &[login]);
        assert!(told["stopped_by"].to_string().contains(why), "{told}");
        assert_eq!(told["allowed"], false);
    }
    cli.run(&["rule", "add", "deny", "build.test:22", "--name", "no-build"]).ok();
    let denied = explained(&cli, &["ssh://deploy@build.test"]);
    assert!(denied["stopped_by"].to_string().contains("store:no-build"), "{denied}");
    let text = cli.run(&["explain", "ssh://forge.test", "--agent", "ci"]).failed(1);
    assert!(text.contains("ssh://USER@HOST"), "{text}");
}

fn explained_without_keys(cli: &Cli) -> String {
    cli.run(&["agent", "add", "ci"]).ok();
    explained(cli, &["ssh://deploy@build.test"])["stopped_by"].to_string()
}
