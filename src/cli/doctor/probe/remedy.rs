//! The remedies, by HTTP stack and problem: rows of `remedies.tsv`, of which the first that fits is printed.

use std::net::SocketAddr;

use super::program::RecognisedProgram;
use super::stack::rows;

/// The problem of a program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ProxyProblem {
    /// It does not use the proxy.
    Direct,
    /// It sends no credentials to the proxy.
    Unauthenticated,
    /// It does not trust the CA.
    Untrusted,
}

/// The agent that the program runs as.
#[derive(Clone, Debug, Default)]
pub(super) struct ProbedAgent {
    pub(super) name: String,
    pub(super) listener: Option<SocketAddr>,
    /// The agent's connection, if it has exactly one.
    pub(super) connection: Option<String>,
}

/// The address in examples of an agent's own listener.
const LISTENER: &str = "127.0.0.1:8090";

/// A hint, and the evidence for it.
#[derive(Clone, Debug)]
pub(super) struct Remedy {
    pub(super) hint: String,
    pub(super) evidence: Evidence,
}

/// How specific the evidence for a remedy is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Evidence {
    /// A word of the program.
    Word,
    /// Its HTTP stack.
    Stack,
    None,
}

impl ProxyProblem {
    /// In the table.
    fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Unauthenticated => "unauthenticated",
            Self::Untrusted => "untrusted",
        }
    }
}

/// Words and hints, in order. The last may have no word.
fn remedies(
    stack: &str,
    problem: ProxyProblem,
) -> impl Iterator<Item = (Option<&'static str>, &'static str)> {
    rows(include_str!("remedies.tsv")).filter_map(move |row| match row[..] {
        [of, kind, word, hint] if of == stack && kind == problem.name() => {
            Some((Some(word).filter(|word| *word != "-"), hint))
        }
        _ => None,
    })
}

pub(super) fn of(
    program: &RecognisedProgram,
    problem: ProxyProblem,
    agent: &ProbedAgent,
) -> Remedy {
    let fits = |stack: &str| {
        let mut all = remedies(stack, problem);
        all.find(|(word, _)| word.is_none_or(|word| program.has(word)))
    };
    let stack = program.stack;
    let stacks = [Some(stack.name), stack.also, Some("unknown")];
    let (word, says) = stacks.into_iter().flatten().find_map(fits).unwrap_or_default();
    let listener = agent.listener.map_or_else(|| LISTENER.to_owned(), |at| at.to_string());
    let mut hint = says.replace("LISTENER", &listener);
    if hint.contains("listener of ") {
        hint.push_str(&match agent.listener {
            Some(at) => format!("; its own is {at}"),
            None => format!(
                ": `listen: {{ agents: [{{ agent: {}, at: \"{LISTENER}\", unsafe_no_auth: true }}] }}`",
                agent.name
            ),
        });
    }
    if stack.takes_base_urls {
        let (name, connection) = (&agent.name, agent.connection.as_deref().unwrap_or("NAME"));
        hint.push_str(&format!(
            "; or, where the API's address can be set, give it a base URL: `keyward env --agent \
             {name} --base-url {connection}`"
        ));
    }
    let evidence = match word {
        None if stack.name == "unknown" => Evidence::None,
        None => Evidence::Stack,
        Some(_) => Evidence::Word,
    };
    Remedy { hint, evidence }
}

#[cfg(test)]
mod tests {
    use super::ProxyProblem::{Direct, Unauthenticated, Untrusted};
    use super::*;
    use crate::cli::doctor::probe::stack::{STACKS, Stack};

    const PROBLEMS: [ProxyProblem; 3] = [Direct, Unauthenticated, Untrusted];

    fn agent() -> ProbedAgent {
        ProbedAgent { name: "ci".to_owned(), ..ProbedAgent::default() }
    }

    fn hint(stack: &str, problem: ProxyProblem, text: &str, agent: &ProbedAgent) -> String {
        let stack = Stack::named(stack);
        of(&RecognisedProgram { stack, text: text.to_owned() }, problem, agent).hint
    }

    #[test]
    fn every_row_is_that_of_a_stack_and_a_problem() {
        for row in rows(include_str!("remedies.tsv")) {
            let [stack, problem, word, hint] = row[..] else { panic!("{row:?}") };
            assert_eq!(Stack::named(stack).name, stack);
            assert!(PROBLEMS.iter().any(|it| it.name() == problem), "{row:?}");
            assert!(!word.is_empty() && hint.len() > 20, "{row:?}");
        }
    }

    #[test]
    fn every_problem_of_every_stack_has_a_remedy() {
        for stack in STACKS.iter() {
            for problem in PROBLEMS {
                let told = hint(stack.name, problem, "", &agent());
                assert!(told.len() > 20, "{} {problem:?}", stack.name);
            }
        }
    }

    #[test]
    fn no_remedy_row_is_shadowed_by_an_earlier_row() {
        for stack in STACKS.iter() {
            for problem in PROBLEMS {
                let rows: Vec<_> = remedies(stack.name, problem).collect();
                for (at, (word, _)) in rows.iter().enumerate() {
                    let is_shadowed = rows[..at].iter().any(|(other, _)| {
                        other.is_none_or(|other| word.is_some_and(|word| word.contains(other)))
                    });
                    assert!(!is_shadowed, "{} {problem:?} {word:?}", stack.name);
                }
            }
        }
    }

    #[test]
    fn a_script_with_certificates_of_its_own_does_not_get_the_remedy_for_certifi() {
        let of = |script: &str| hint("python", Untrusted, script, &agent());
        let grpc = of("grpc.ssl_channel_credentials(root_certificates=own)");
        assert!(grpc.contains("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"), "{grpc}");
        assert!(!of("# checks certificates").contains("certifi's file"));
    }

    #[test]
    fn yt_dlp_gets_the_option_that_makes_it_read_the_bundle() {
        let of = |command: &str| hint("python", Untrusted, command, &agent());
        assert!(!of("/usr/bin/python3 a.py\nverify=certifi.where()").contains("no-certifi"));
        // Its own script and its zip file import certifi too.
        let script = "/usr/bin/python3 /usr/bin/yt-dlp https://example.com/\nimport certifi\n";
        assert!(of(script).contains("`yt-dlp --compat-options no-certifi`"), "{}", of(script));
    }

    #[test]
    fn an_unauthenticated_stack_gets_its_listener_address_or_a_configuration_line() {
        let line =
            "`listen: { agents: [{ agent: ci, at: \"127.0.0.1:8090\", unsafe_no_auth: true }] }`";
        let own = ProbedAgent { listener: Some("127.0.0.1:9999".parse().unwrap()), ..agent() };
        for stack in ["java", "maven", "gradle", "chromium", "git", "unknown"] {
            let without = hint(stack, Unauthenticated, "", &agent());
            assert!(without.contains(line) && !without.contains("LISTENER"), "{without}");
            let with = hint(stack, Unauthenticated, "", &own);
            assert!(
                with.contains("; its own is 127.0.0.1:9999") && !with.contains("8090"),
                "{with}"
            );
        }
    }

    #[test]
    fn remedies_for_java_maven_and_gradle_say_the_same_about_the_proxy_port() {
        let advice = "give the agent a listener of its own, whose port `keyward run` and \
                      `keyward env` then put into JAVA_TOOL_OPTIONS (`-Dhttps.proxyPort`), or ";
        for stack in ["java", "maven", "gradle"] {
            let told = hint(stack, Unauthenticated, "", &agent());
            assert!(told.contains(advice), "{told}");
        }
    }

    #[test]
    fn remedies_offer_the_base_url_of_the_only_connection_to_api_clients() {
        let one = ProbedAgent { connection: Some("work-openai".to_owned()), ..agent() };
        for stack in STACKS.iter() {
            for problem in PROBLEMS {
                let told = hint(stack.name, problem, "", &one);
                let offered = told.contains("`keyward env --agent ci --base-url work-openai`");
                assert_eq!(offered, stack.takes_base_urls, "{}: {told}", stack.name);
            }
        }
        assert!(hint("go", Direct, "", &agent()).contains("--base-url NAME`"));
    }
}
