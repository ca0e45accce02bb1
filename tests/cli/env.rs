//! `keyward env`: lines that a shell takes, with a token that has an end.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use test_support::cli::Cli;

#[test]
fn a_shell_that_evaluates_the_lines_has_the_proxy_and_the_ca() {
    let cli = Cli::with_agent();
    let lines = cli.run(&["env", "--agent", "ci", "--ttl", "1h"]).ok();
    let script = format!("{lines}\necho \"$https_proxy\"; cat \"$NODE_EXTRA_CA_CERTS\"");
    let shell = std::process::Command::new("sh").args(["-c", &script]).output().expect("sh");
    let said = String::from_utf8(shell.stdout).expect("text");
    assert!(said.starts_with("http://ci:kwa_"), "{said}");
    assert_eq!(said.matches("BEGIN CERTIFICATE").count(), 1, "the CA alone");
    let shown = cli.run(&["agent", "show", "ci", "--json"]).json();
    let tokens = shown["tokens"].as_array().expect("a list");
    let env = tokens.iter().find(|token| token["label"] == "env").expect("labelled");
    assert!(env["expires"].is_string(), "{env}");
}

#[test]
fn the_lines_of_another_agent_remove_the_variables_of_the_first() {
    let cli = Cli::new();
    let add = ["connection", "add", "openai", "--name", "work", "--any-shape", "--no-test"];
    let key = ["--secret-stdin", "api_key"];
    cli.run_with(&[&add[..], &key].concat(), "sk-a-secret-of-the-owner").ok();
    cli.run(&["agent", "add", "ci"]).ok();
    cli.run(&["agent", "bind", "ci", "work"]).ok();
    cli.run(&["agent", "add", "other"]).ok();
    let keyward = format!("'{}' --data '{}'", env!("CARGO_BIN_EXE_keyward"), cli.data().display());
    let after = |agents: &str| {
        let script = format!(
            "for it in {agents}; do eval \"$({keyward} env --agent $it)\"; done; \
             echo \"$NODE_OPTIONS,$OPENAI_API_KEY\""
        );
        let mut shell = std::process::Command::new("sh");
        for name in ["KEYWARD_CONFIG", "KEYWARD_URL", "NODE_OPTIONS", "OPENAI_API_KEY"] {
            shell.env_remove(name);
        }
        let shell = shell.args(["-c", &script]).output().expect("sh");
        String::from_utf8(shell.stdout).expect("text")
    };
    assert!(after("ci").contains("kwph"));
    let shim = cli.data().join("client/node-shim.cjs");
    assert_eq!(after("ci ci other"), format!("--require={},\n", shim.display()));
}

#[test]
fn a_token_from_standard_input_is_used_and_no_token_is_created() {
    let cli = Cli::with_agent();
    let count =
        || cli.run(&["agent", "show", "ci", "--json"]).json()["tokens"].as_array().map(Vec::len);
    let before = count();
    let asked = ["env", "--agent", "ci", "--for", "json", "--token-stdin"];
    // Short enough not to be taken for a secret that nothing may print: this command is to.
    let found = cli.run_with(&asked, "kwa_mine-012345678\n").json();
    let proxy = found["HTTPS_PROXY"].as_str().expect("text");
    assert!(proxy.contains(":kwa_mine-012345678@"), "{proxy}");
    assert_eq!(count(), before);
}

#[test]
fn invalid_options_and_tokens_are_refused_and_no_token_is_created() {
    let cli = Cli::with_agent();
    for (words, input, code) in [
        (&["--token-stdin"][..], "a'b; zzz", 2),
        (&["--token-stdin"], "", 2),
        (&["--token-stdin", "--ttl", "1h"], "kwa_mine-0123456789abcdef", 2),
        (&["--for", "powershell"], "", 2),
        (&["--proxy", "http://x"], "", 2),
        (&["--ttl", "soon"], "", 1),
        (&["--agent", "nobody"], "", 5),
        (&["--files", "/dev/null/files"], "", 1),
    ] {
        let words: Vec<_> = ["env"].iter().chain(words).copied().collect();
        let words = match words.contains(&"--agent") {
            true => words,
            false => [words, vec!["--agent", "ci"]].concat(),
        };
        let err = cli.run_with(&words, input).failed(code);
        assert!(err.starts_with("error: ") && !err.contains("zzz"), "{words:?}: {err}");
    }
    let shown = cli.run(&["agent", "show", "ci", "--json"]).json();
    assert_eq!(shown["tokens"].as_array().map(Vec::len), Some(1), "its first one");
}

#[test]
fn a_free_port_of_the_proxy_is_printed_only_while_a_gateway_has_it() {
    let cli = Cli::with_agent();
    let free = cli.file("free.yaml", "listen: { proxy: 127.0.0.1:0 }\n");
    let free = free.to_str().expect("a path in UTF-8");
    let env = ["--config", free, "env", "--agent", "ci", "--for", "json"];
    let err = cli.run(&env).failed(1);
    assert!(err.starts_with("error: the proxy has no port yet: "), "{err}");
    assert!(
        err.contains("hint: start the gateway, ") && err.contains("--proxy HOST:PORT"),
        "{err}"
    );
    let shown = cli.run(&["agent", "show", "ci", "--json"]).json();
    assert_eq!(shown["tokens"].as_array().map(Vec::len), Some(1), "no token is created");
    let given = cli.run(&[&env[..], &["--proxy", "127.0.0.1:9"]].concat()).json();
    assert!(given["HTTPS_PROXY"].as_str().is_some_and(|it| it.ends_with("@127.0.0.1:9")));
    let _serving = cli.serve();
    let at = cli.run(&["status", "--json"]).json()["gateway"]["proxy"][0].clone();
    let proxy = cli.run(&env).json()["HTTPS_PROXY"].clone();
    let (proxy, at) = (proxy.as_str().expect("a URL"), at.as_str().expect("an address"));
    assert!(proxy.ends_with(&format!("@{at}")) && !at.ends_with(":0"), "{proxy} {at}");
}

#[test]
fn variables_for_containers_name_the_mounted_files_and_the_given_proxy() {
    let cli = Cli::with_agent();
    let ran = cli.run(&["env", "--agent", "ci", "--for", "docker", "--proxy", "keyward:8080"]);
    assert!(ran.err.contains(":/etc/keyward:ro …"), "{}", ran.err);
    let text = ran.ok();
    assert!(text.contains("@keyward:8080\n") && text.contains("=/etc/keyward/bundle.pem\n"));
    assert!(cli.data().join("container/bundle.pem").exists());
    let data = cli.data().display().to_string();
    assert!(!text.contains(&data), "no path of this machine: {text}");
}

#[test]
fn files_for_containers_are_separate_from_those_for_shells_and_readable_by_all() {
    let cli = Cli::with_agent();
    let wgetrc = cli.file("wgetrc", "password = canary\n");
    let env = |form: &str| {
        let mut env = cli.command(&["env", "--agent", "ci", "--for", form]);
        let output = env.env("WGETRC", &wgetrc).output().expect("keyward runs");
        assert!(output.status.success(), "{output:?}");
    };
    let text = |name: &str| std::fs::read_to_string(cli.data().join(name)).expect(name);
    env("sh");
    let of_shells = (text("client/wgetrc"), text("client/apt.conf"));
    assert!(of_shells.0.starts_with("password = canary\n"), "{}", of_shells.0);
    for form in ["docker", "compose", "k8s"] {
        env(form);
        assert_eq!((text("client/wgetrc"), text("client/apt.conf")), of_shells, "{form}");
        assert_eq!(text("container/wgetrc"), "ca_certificate = /etc/keyward/bundle.pem\n");
    }
    let mode = |name: &str| {
        std::fs::metadata(cli.data().join(name)).expect(name).permissions().mode() & 0o777
    };
    assert_eq!((mode(""), mode("client"), mode("client/wgetrc")), (0o700, 0o700, 0o600));
    assert_eq!((mode("container"), mode("container/bundle.pem")), (0o755, 0o644));
}

#[test]
fn files_that_root_writes_belong_to_the_user_of_the_gateway() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let cli = Cli::with_agent();
    let mut owned = std::process::Command::new("chown");
    let owned = owned.args(["-R", "65534:65534"]).arg(cli.data()).status();
    assert!(owned.expect("chown runs").success());
    for (form, folder) in [("sh", "client"), ("docker", "container")] {
        cli.run(&["env", "--agent", "ci", "--for", form]).ok();
        let folder = cli.data().join(folder);
        let entries = std::fs::read_dir(&folder).expect("a folder");
        let files = entries.map(|entry| entry.expect("an entry").path());
        for path in files.chain([folder]) {
            let owner = std::fs::metadata(&path).expect("it exists").uid();
            assert_eq!(owner, 65_534, "{}", path.display());
        }
    }
}

/// An apply by the client copies each object into an annotation, which may have 256 KiB; the certificates are longer.
#[test]
fn every_documented_kubectl_apply_of_an_environment_is_server_side() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documented = [
        "src/cli/env.rs",
        "docs/reference/cli.md",
        "docs/guides/kubernetes.md",
        "deploy/kubernetes.yaml",
    ];
    for file in documented {
        let text = std::fs::read_to_string(package.join(file)).expect(file);
        assert!(text.contains("apply --server-side -f -"), "{file}");
        assert!(!text.contains("apply -f -"), "{file}");
    }
}

#[test]
fn a_program_without_a_proxy_gets_a_base_url_and_the_token_as_its_key() {
    let cli = Cli::with_agent();
    let add = [
        "connection",
        "add",
        "openai",
        "--name",
        "work",
        "--any-shape",
        "--no-test",
        "--secret-stdin",
    ];
    cli.run_with(&[&add[..], &["api_key"]].concat(), "sk-a-secret-of-the-owner").ok();
    cli.run(&["agent", "bind", "ci", "work"]).ok();
    let asked = ["env", "--agent", "ci", "--base-url", "work", "--proxy", "127.0.0.1:9", "--for"];
    let ran = cli.run(&[&asked[..], &["json"]].concat());
    let (hint, found) = (ran.err.clone(), ran.json());
    let names: Vec<_> = found.as_object().expect("a map").keys().cloned().collect();
    assert_eq!(names, ["KEYWARD_AGENT_TOKEN", "KEYWARD_BASE_URL", "OPENAI_API_KEY"]);
    assert_eq!(found["KEYWARD_BASE_URL"], "http://127.0.0.1:9/to/work");
    assert_eq!(found["KEYWARD_AGENT_TOKEN"], found["OPENAI_API_KEY"]);
    assert!(found["OPENAI_API_KEY"].as_str().expect("text").starts_with("kwa_"), "{found}");
    assert!(hint.contains("replace https://api.openai.com by"), "{hint}");
    let lines = cli.run(&[&asked[..], &["sh"]].concat()).ok();
    assert!(lines.contains("export KEYWARD_BASE_URL='http://127.0.0.1:9/to/work'\n"), "{lines}");
    let shown = cli.run(&["connection", "show", "work"]).ok();
    assert!(shown.contains("/to/work for https://api.openai.com"), "{shown}");
}

#[test]
fn an_invalid_base_url_is_refused_before_a_token_is_created() {
    let cli = Cli::with_agent();
    let add = ["connection", "add", "twilio", "--name", "calls", "--any-shape", "--no-test"];
    let fields = ["--field", "account_sid=AC0123456789abcdef0123456789abcdef"];
    let secret = ["--secret-stdin", "auth_token"];
    cli.run_with(&[&add[..], &fields, &secret].concat(), "0123456789abcdef0123456789abcdef").ok();
    for (words, code, says) in [
        (&["nothing"][..], 5, "nothing"),
        (&["calls"], 2, "calls@HOST"),
        (&["calls@a b"], 2, "not a host"),
        (&["calls@api.twilio.com", "--for", "k8s"], 2, "--for sh"),
        (&["calls@api.twilio.com", "--files", "x"], 2, "--files"),
    ] {
        let err = cli.run(&[&["env", "--agent", "ci", "--base-url"], words].concat()).failed(code);
        assert!(err.contains(says), "{words:?}: {err}");
    }
    let tokens = || cli.run(&["agent", "show", "ci", "--json"]).json()["tokens"].clone();
    assert_eq!(tokens().as_array().map(Vec::len), Some(1), "its first one");
    let ran = cli.run(&["env", "--agent", "ci", "--base-url", "calls@api.twilio.com"]);
    assert!(ran.err.contains("is not bound to calls"), "{}", ran.err);
    assert!(ran.ok().contains("/to/calls@api.twilio.com'"));
}

/// The Secret of the second would take the place of the first one's: its pods would get the other agent's token.
#[test]
fn two_agents_with_the_same_kubernetes_secret_get_no_environment_for_it() {
    let cli = Cli::new();
    for name in ["ci_bot", "ci-bot", "other"] {
        cli.run(&["agent", "add", name]).ok();
    }
    let tokens = |name: &str| {
        let shown = cli.run(&["agent", "show", name, "--json"]).json();
        shown["tokens"].as_array().map(Vec::len)
    };
    for (name, first) in [("ci_bot", "ci_bot and ci-bot"), ("ci-bot", "ci-bot and ci_bot")] {
        let before = tokens(name);
        let said =
            cli.run(&["env", "--agent", name, "--for", "k8s", "--proxy", "keyward:8080"]).failed(1);
        let refusal =
            format!("agents {first} would have the same Kubernetes Secret, keyward-ci-bot\n");
        assert!(said.contains(&refusal) && said.contains("rename one of them"), "{said}");
        assert_eq!(tokens(name), before, "a refused command makes no token");
    }
    cli.run(&["env", "--agent", "ci_bot", "--for", "docker", "--proxy", "keyward:8080"]).ok();
    cli.run(&["env", "--agent", "other", "--for", "k8s", "--proxy", "keyward:8080"]).ok();
}
