//! Shell completions in their shells, and manual pages in man(1).

use std::path::Path;
use std::process::{Command, Output};

use test_support::*;

fn keyward(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_keyward")).args(arguments).output();
    let output = output.expect("it runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    output.stdout
}

/// What a shell offers, asked again while it offers nothing: on a busy machine the gateway may answer later than a
/// person waits.
fn offered(ask: impl Fn() -> String) -> String {
    (0..20).map(|_| ask()).find(|told| !told.trim().is_empty()).unwrap_or_default()
}

/// What a shell prints for `script`, after the file of its completions, where `lab` is the gateway.
fn in_shell(shell: &str, arguments: &[&str], script: &str, lab: &Lab) -> String {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("completions");
    std::fs::write(&file, keyward(&["completions", shell])).expect("a file");
    let script = script.replace("FILE", file.to_str().expect("a path in UTF-8"));
    let program = Path::new(env!("CARGO_BIN_EXE_keyward")).parent().expect("a directory");
    let path = std::env::var("PATH").expect("a path");
    let mut shell = Command::new(shell);
    shell.args(arguments).args(["-c", &script]);
    shell.env("PATH", format!("{}:{path}", program.display()));
    shell.env("KEYWARD_DATA", lab.gateway.data()).env("HOME", folder.path());
    let output: Output = shell.output().expect("the shell is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    String::from_utf8(output.stdout).expect("text")
}

/// A gateway with agent `claude`, and its data directory.
async fn gateway() -> Lab {
    Plan::api_key().agent("claude", "acme").start(Origin::saying("never")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bash_completes_commands_and_names() {
    let lab = gateway().await;
    let ask = |words: &str, count: usize| {
        let ask = format!(
            "source FILE; COMP_WORDS=(keyward {words}); COMP_CWORD={count}; \
             _keyward keyward '' audit; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        in_shell("bash", &["--norc"], &ask, &lab)
    };
    let told = ask("audit ''", 2);
    for word in ["query", "tail", "verify"] {
        assert!(told.lines().any(|line| line == word), "{word}: {told}");
    }
    assert!(!told.contains("man") && !told.contains("--json"), "{told}");
    assert_eq!(offered(|| ask("agent show cl", 3)), "claude\n");
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zsh_completes_commands_and_names() {
    let lab = gateway().await;
    let ask = |words: &str, current: usize| {
        let ask = format!(
            "autoload -U compinit && compinit -D -u && zsh -n FILE && source FILE
             _describe() {{ print -l -- \"${{(@P)2}}\" }}
             words=(keyward {words}); CURRENT={current}; _keyward"
        );
        in_shell("zsh", &["-f"], &ask, &lab)
    };
    assert!(ask("audit ''", 3).contains("query:"), "{}", ask("audit ''", 3));
    assert_eq!(offered(|| ask("agent show cl", 4)), "claude:\n");
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fish_completes_commands_and_names() {
    let lab = gateway().await;
    let ask = |line: &str| {
        in_shell("fish", &["--no-config"], &format!("source FILE; complete -C '{line}'"), &lab)
    };
    let told = ask("keyward rule ");
    assert!(told.contains("list\t") && told.contains("test\t"), "{told}");
    assert_eq!(offered(|| ask("keyward agent show cl")).trim_end(), "claude");
    assert!(ask("keyward connection list --sta").contains("--state"));
    lab.finish().await;
}

#[test]
fn every_manual_page_is_rendered_without_a_warning() {
    let folder = tempfile::tempdir().expect("a directory");
    let pages = folder.path().join("man1");
    keyward(&["man", "--dir", pages.to_str().expect("a path in UTF-8")]);
    let mut names = vec![];
    for entry in std::fs::read_dir(&pages).expect("pages") {
        let path = entry.expect("an entry").path();
        let text = rendered(&path);
        assert!(text.contains("NAME") && text.contains("SYNOPSIS"), "{text}");
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let has_global = text.lines().any(|line| line.trim_start().starts_with("--data"));
        assert_eq!(has_global, name == "keyward.1", "{name}: {text}");
        names.push(path.file_name().expect("a name").to_string_lossy().into_owned());
    }
    for name in ["keyward.1", "keyward-man.1", "keyward-audit-tail.1", "keyward-agent-add.1"] {
        assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
    }
    let one = folder.path().join("keyward.1");
    std::fs::write(&one, keyward(&["man"])).expect("a file");
    assert!(rendered(&one).contains("gives agents API access"));
}

fn rendered(page: &Path) -> String {
    let mut man = Command::new("man");
    man.args(["--warnings", "-l"]).arg(page).env("MANWIDTH", "100").env("LC_ALL", "C.UTF-8");
    let output = man.output().expect("man is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{}: {said}", page.display());
    String::from_utf8(output.stdout).expect("text")
}
