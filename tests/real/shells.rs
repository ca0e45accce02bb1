//! Shell completions in their shells, and manual pages in man(1).

use std::path::Path;
use std::process::{Command, Output};

fn keyward(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_keyward")).args(arguments).output();
    let output = output.expect("it runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    output.stdout
}

/// What a shell prints for `script`, after the file of its completions.
fn in_shell(shell: &str, arguments: &[&str], script: &str) -> String {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("completions");
    std::fs::write(&file, keyward(&["completions", shell])).expect("a file");
    let script = script.replace("FILE", file.to_str().expect("a path in UTF-8"));
    let output = Command::new(shell).args(arguments).args(["-c", &script]).output();
    let output: Output = output.expect("the shell is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn bash_completes_commands_and_options() {
    let ask = "source FILE; COMP_WORDS=(keyward audit ''); COMP_CWORD=2; \
               _keyward keyward '' audit; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let told = in_shell("bash", &["--norc"], ask);
    for word in ["query", "tail", "verify", "--json"] {
        assert!(told.lines().any(|line| line == word), "{word}: {told}");
    }
    assert!(!told.contains("man"), "{told}");
}

#[test]
fn zsh_reads_its_completions() {
    in_shell(
        "zsh",
        &["-f"],
        "autoload -U compinit && compinit -D -u && source FILE && zsh -n FILE",
    );
}

#[test]
fn fish_completes_commands() {
    let told = in_shell("fish", &["--no-config"], "source FILE; complete -C 'keyward rule '");
    assert!(told.contains("list") && told.contains("test"), "{told}");
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
