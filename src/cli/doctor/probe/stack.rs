//! Guesses a program's HTTP stack from its process names, user agents and words of its script. The guess
//! only selects the remedy; it never changes the verdict.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::watch::Process;

/// Longer scripts are cut.
const SCRIPT_BYTES_MAX: u64 = 256 * 1024;

/// An HTTP stack: programs that need the same settings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stack {
    Python,
    Node,
    Bun,
    Deno,
    Java,
    Maven,
    Gradle,
    Git,
    Docker,
    Chromium,
    Curl,
    Npm,
    Pip,
    Cargo,
    Go,
    /// Starts other programs, perhaps with another environment.
    Starter,
    Unknown,
}

/// Programs that Java runs, by a part of one of its arguments.
const OF_JAVA: &[(&str, Stack)] = &[
    ("plexus.classworlds.launcher", Stack::Maven),
    ("org.apache.maven.", Stack::Maven),
    ("org.gradle.", Stack::Gradle),
    ("gradle-wrapper", Stack::Gradle),
];

/// Beginnings of program names.
const NAMES: &[(&str, Stack)] = &[
    ("python", Stack::Python),
    ("pypy", Stack::Python),
    ("uvicorn", Stack::Python),
    ("pip", Stack::Pip),
    ("node", Stack::Node),
    ("nodejs", Stack::Node),
    ("npm", Stack::Npm),
    ("npx", Stack::Npm),
    ("tsx", Stack::Node),
    ("bun", Stack::Bun),
    ("deno", Stack::Deno),
    ("java", Stack::Java),
    ("gradle", Stack::Gradle),
    ("mvn", Stack::Maven),
    ("git", Stack::Git),
    ("docker", Stack::Docker),
    ("podman", Stack::Docker),
    ("nerdctl", Stack::Docker),
    ("sudo", Stack::Starter),
    ("doas", Stack::Starter),
    ("su", Stack::Starter),
    ("env", Stack::Starter),
    ("chrom", Stack::Chromium),
    ("google-chrome", Stack::Chromium),
    ("headless_shell", Stack::Chromium),
    ("curl", Stack::Curl),
    ("cargo", Stack::Cargo),
    ("go", Stack::Go),
];

/// A program whose stack was recognised.
pub(super) struct RecognisedProgram {
    pub(super) stack: Stack,
    /// Arguments, script, libraries and user agents.
    pub(super) text: String,
}

impl RecognisedProgram {
    pub(super) fn of(process: &Process, agents: &str) -> Self {
        let named = |word: &String| stack_of(file_name(word));
        let mut stack = stack_of(&process.program);
        if stack == Stack::Java {
            stack = run_by_java(process).unwrap_or(stack);
        }
        // A program that an interpreter runs: `python -m pip`, `node …/npm`.
        let script = process.words.iter().skip(1).find(|word| !word.starts_with('-'));
        if let Some(tool @ (Stack::Pip | Stack::Npm)) = script.map(named) {
            stack = tool;
        }
        let mut text = process.words.join(" ") + "\n";
        text.push_str(&script_of(&process.words, process.folder.as_deref()));
        text.extend(process.modules.iter().copied());
        text.push_str(agents);
        Self { stack, text }
    }

    /// The stack by user agents if it is not known by processes: a short-lived process may be missed, but
    /// its requests are not.
    pub(super) fn or_by_agent<'a>(self, agents: impl IntoIterator<Item = &'a String>) -> Self {
        if !matches!(self.stack, Stack::Unknown | Stack::Starter) {
            return self;
        }
        let mut named = agents.into_iter().map(|agent| stack_of(&agent.to_ascii_lowercase()));
        let named = named.find(|stack| !matches!(stack, Stack::Unknown | Stack::Starter));
        Self { stack: named.unwrap_or(self.stack), ..self }
    }

    /// Whether arguments, script, libraries or user agents contain the word.
    pub(super) fn has(&self, word: &str) -> bool {
        self.text.contains(word)
    }
}

/// The program that Java runs, by its arguments, else by the script that has started Java.
fn run_by_java(process: &Process) -> Option<Stack> {
    let runs = |(part, _): &&(&str, Stack)| process.words.iter().any(|w| w.contains(part));
    if let Some((_, stack)) = OF_JAVA.iter().find(runs) {
        return Some(*stack);
    }
    let before = process.words_before.iter().flat_map(|word| word.split_ascii_whitespace());
    let mut scripts = before.map(|word| stack_of(file_name(word)));
    scripts.find(|stack| matches!(stack, Stack::Maven | Stack::Gradle))
}

fn file_name(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

fn stack_of(name: &str) -> Stack {
    let fits = |(begin, _): &&(&str, Stack)| {
        name.strip_prefix(*begin).is_some_and(|rest| {
            // `go` is not `gopher`, and `git-remote-https` is git.
            !rest.starts_with(|c: char| c.is_ascii_alphabetic()) || begin.len() > 4
        })
    };
    NAMES.iter().find(fits).map_or(Stack::Unknown, |(_, stack)| *stack)
}

/// The code of an interpreter's option, or of the first argument that is a file.
fn script_of(words: &[String], folder: Option<&Path>) -> String {
    let given = words.iter().position(|word| matches!(&**word, "-c" | "-e" | "--eval" | "-p"));
    if let Some(code) = given.and_then(|at| words.get(at + 1)) {
        return format!("{code}\n");
    }
    let file = |word: &String| -> Option<PathBuf> {
        let path = folder.map_or_else(|| PathBuf::from(word), |folder| folder.join(word));
        path.is_file().then_some(path)
    };
    let path = words.iter().skip(1).filter(|word| !word.starts_with('-')).find_map(file);
    let mut bytes = Vec::new();
    if let Some(file) = path.and_then(|path| std::fs::File::open(path).ok()) {
        // What cannot be read makes the words less specific.
        drop(file.take(SCRIPT_BYTES_MAX).read_to_end(&mut bytes));
    }
    format!("{}\n", String::from_utf8_lossy(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(words: &[&str]) -> Process {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        Process { program: file_name(&words[0]).to_owned(), words, ..Process::default() }
    }

    #[test]
    fn a_stack_that_no_process_reveals_is_recognised_by_its_user_agent() {
        let shell = || RecognisedProgram::of(&process(&["sh", "-c", "x"]), "");
        let by = |agent: &str| shell().or_by_agent([&agent.to_owned()]).stack;
        assert_eq!(by("curl/7.88.1"), Stack::Curl);
        assert_eq!(by("python-requests/2.32"), Stack::Python);
        assert_eq!(by("Go-http-client/1.1"), Stack::Go);
        assert_eq!(by("gopher/1"), shell().stack);
        let node = RecognisedProgram::of(&process(&["node", "x.js"]), "");
        assert_eq!(node.or_by_agent([&"curl/8".to_owned()]).stack, Stack::Node);
    }

    #[test]
    fn programs_are_recognised_by_their_names() {
        let table: [(&[&str], Stack); 14] = [
            (&["/x/bin/python3.11", "app.py"], Stack::Python),
            (&["python3", "-m", "pip", "install", "x"], Stack::Pip),
            (&["python3", "/x/bin/pip", "download"], Stack::Pip),
            (&["node", "/x/npm-cli.js"], Stack::Npm),
            (&["node", "--no-warnings", "app.js"], Stack::Node),
            (
                &["/usr/bin/java", "-cp", "x", "org.codehaus.plexus.classworlds.launcher.Launcher"],
                Stack::Maven,
            ),
            (&["java", "-classpath", "x.jar", "org.gradle.launcher.GradleMain"], Stack::Gradle),
            (&["java", "-jar", "app.jar"], Stack::Java),
            (&["/x/bin/bun", "app.ts"], Stack::Bun),
            (&["deno", "run", "--allow-net", "app.ts"], Stack::Deno),
            (&["git-remote-https", "origin"], Stack::Git),
            (&["chromium", "--headless"], Stack::Chromium),
            (&["gopher"], Stack::Unknown),
            (&["gitea"], Stack::Unknown),
        ];
        for (words, stack) in table {
            assert_eq!(RecognisedProgram::of(&process(words), "").stack, stack, "{words:?}");
        }
    }

    #[test]
    fn what_java_runs_is_recognised_by_the_script_that_started_it() {
        let java = |words: &[&str], before: &[&str]| {
            let before = before.iter().map(|word| (*word).to_owned()).collect();
            let java = Process { words_before: before, ..process(words) };
            RecognisedProgram::of(&java, "").stack
        };
        assert_eq!(java(&["java"], &["/bin/sh", "/usr/bin/mvn", "validate"]), Stack::Maven);
        assert_eq!(java(&["java"], &["sh", "-c", "cd app && ./gradlew build"]), Stack::Gradle);
        assert_eq!(java(&["java", "-jar", "app.jar"], &["/bin/sh", "start.sh"]), Stack::Java);
        assert_eq!(java(&["java"], &[]), Stack::Java);
    }

    #[test]
    fn a_library_is_recognised_in_inline_code_a_script_file_or_a_user_agent() {
        let code = RecognisedProgram::of(&process(&["python3", "-c", "import aiohttp"]), "");
        assert!(code.has("aiohttp"));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("app.py"), "import stripe").unwrap();
        let mut app = process(&["python3", "app.py"]);
        app.folder = Some(dir.path().to_owned());
        assert!(RecognisedProgram::of(&app, "").has("stripe"));
        assert!(RecognisedProgram::of(&process(&["x"]), "Stripe/v1").has("Stripe/v1"));
    }
}
