//! Guesses a program's HTTP stack from its process names, user agents and words of its script. The guess
//! only selects the remedy; it never changes the verdict.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::stack::{STACKS, Stack};
use super::watch::Process;

/// Longer scripts are cut.
const SCRIPT_BYTES_MAX: u64 = 256 * 1024;

/// A program whose stack was recognised.
pub(super) struct RecognisedProgram {
    pub(super) stack: &'static Stack,
    /// Arguments, script, libraries and user agents.
    pub(super) text: String,
}

impl RecognisedProgram {
    pub(super) fn of(process: &Process, agents: &str) -> Self {
        let stack = run_by(Stack::by_program(&process.program), process);
        let mut text = process.words.join(" ") + "\n";
        text.push_str(&script_of(&process.words, process.folder.as_deref()));
        text.extend(process.modules.iter().copied());
        text.push_str(agents);
        Self { stack, text }
    }

    /// The stack by user agents if it is not known by processes: a short-lived process may be missed, but
    /// its requests are not.
    pub(super) fn or_by_agent<'a>(self, agents: impl IntoIterator<Item = &'a str>) -> Self {
        if self.stack.is_known() {
            return self;
        }
        let mut named =
            agents.into_iter().map(|agent| Stack::by_program(&agent.to_ascii_lowercase()));
        let named = named.find(|stack| stack.is_known());
        Self { stack: named.unwrap_or(self.stack), ..self }
    }

    /// Whether arguments, script, libraries or user agents contain the word.
    pub(super) fn has(&self, word: &str) -> bool {
        self.text.contains(word)
    }
}

/// What a process runs that is of another stack than its program.
fn run_by(program: &'static Stack, process: &Process) -> &'static Stack {
    let inner = STACKS.iter().filter(|stack| stack.runs_in == Some(program.name));
    let has = |part: &&str| process.words.iter().any(|word| word.contains(part));
    if let Some(found) = inner.clone().find(|stack| stack.arguments.iter().any(has)) {
        return found;
    }
    let is_started_by_scripts = inner.clone().any(|stack| !stack.arguments.is_empty());
    let script = process.words.iter().skip(1).find(|word| !word.starts_with('-'));
    // The script that has started the program, such as `mvn` before Java.
    let before = process.words_before.iter().flat_map(|word| word.split_ascii_whitespace());
    let before = before.filter(|_| is_started_by_scripts);
    let mut named = script.into_iter().map(String::as_str).chain(before);
    let found = named.find_map(|word| {
        let stack = Stack::by_program(file_name(word));
        (stack.runs_in == Some(program.name)).then_some(stack)
    });
    found.unwrap_or(program)
}

fn file_name(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
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
        let by = |agent: &str| shell().or_by_agent([agent]).stack.name;
        assert_eq!(by("curl/7.88.1"), "curl");
        assert_eq!(by("python-requests/2.32"), "python");
        assert_eq!(by("Go-http-client/1.1"), "go");
        assert_eq!(by("gopher/1"), "unknown");
        let node = RecognisedProgram::of(&process(&["node", "x.js"]), "");
        assert_eq!(node.or_by_agent(["curl/8"]).stack.name, "node");
    }

    #[test]
    fn programs_are_recognised_by_their_names() {
        let table: [(&[&str], &str); 14] = [
            (&["/x/bin/python3.11", "app.py"], "python"),
            (&["python3", "-m", "pip", "install", "x"], "pip"),
            (&["python3", "/x/bin/pip", "download"], "pip"),
            (&["node", "/x/npm-cli.js"], "npm"),
            (&["node", "--no-warnings", "app.js"], "node"),
            (
                &["/usr/bin/java", "-cp", "x", "org.codehaus.plexus.classworlds.launcher.Launcher"],
                "maven",
            ),
            (&["java", "-classpath", "x.jar", "org.gradle.launcher.GradleMain"], "gradle"),
            (&["java", "-jar", "app.jar"], "java"),
            (&["/x/bin/bun", "app.ts"], "bun"),
            (&["deno", "run", "--allow-net", "app.ts"], "deno"),
            (&["git-remote-https", "origin"], "git"),
            (&["chromium", "--headless"], "chromium"),
            (&["gopher"], "unknown"),
            (&["gitea"], "unknown"),
        ];
        for (words, stack) in table {
            assert_eq!(RecognisedProgram::of(&process(words), "").stack.name, stack, "{words:?}");
        }
    }

    #[test]
    fn what_java_runs_is_recognised_by_the_script_that_started_it() {
        let java = |words: &[&str], before: &[&str]| {
            let before = before.iter().map(|word| (*word).to_owned()).collect();
            let java = Process { words_before: before, ..process(words) };
            RecognisedProgram::of(&java, "").stack.name
        };
        assert_eq!(java(&["java"], &["/bin/sh", "/usr/bin/mvn", "validate"]), "maven");
        assert_eq!(java(&["java"], &["sh", "-c", "cd app && ./gradlew build"]), "gradle");
        assert_eq!(java(&["java", "-jar", "app.jar"], &["/bin/sh", "start.sh"]), "java");
        assert_eq!(java(&["java"], &[]), "java");
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
