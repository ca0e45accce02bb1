//! The remedies, by HTTP stack and problem. The first that fits is printed. `LISTENER` means the address of the agent's own
//! listener.

use std::net::SocketAddr;

use super::stack::{RecognisedProgram, Stack};

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

/// A word of the script, and the hint.
type WordRemedy = (&'static str, &'static str);

use ProxyProblem::{Direct, Unauthenticated, Untrusted};
use Stack::{
    Bun, Chromium, Curl, Deno, Docker, Git, Go, Gradle, Java, Maven, Node, Npm, Pip, Python,
    Starter, Unknown,
};

/// The address in examples of an agent's own listener.
const LISTENER: &str = "127.0.0.1:8090";

/// urllib3 takes no credentials from a proxy's URL.
const URLLIB3: &str = "urllib3 itself reads no variable, and no credentials of a URL: \
                       `urllib3.ProxyManager(os.environ[\"HTTPS_PROXY\"], \
                       proxy_headers=urllib3.make_headers(proxy_basic_auth=\
                       urllib3.util.parse_url(os.environ[\"HTTPS_PROXY\"]).auth))`";

const STRIPE: &str = "stripe-python brings its own CA file: `stripe.ca_bundle_path = \
                      os.environ[\"SSL_CERT_FILE\"]`";

const PYTHON_DIRECT: &[WordRemedy] = &[
    ("ProxyHandler({})", "`ProxyHandler({})` disables the proxy variables: remove it"),
    ("trust_env=False", "`trust_env=False` disables the proxy variables: remove it"),
    ("trust_env = False", "`trust_env = False` disables the proxy variables: remove it"),
    (
        "grpc.enable_http_proxy",
        "the channel option `grpc.enable_http_proxy` disables the proxy variables: remove it",
    ),
    (
        "aiohttp",
        "aiohttp reads the proxy variables only on request: `aiohttp.ClientSession(trust_env=True)`",
    ),
    ("httplib2", "httplib2 ignores the proxy without the package PySocks: `pip install pysocks`"),
    (
        "googleapiclient",
        "googleapiclient uses httplib2, which ignores the proxy without the package PySocks: \
         `pip install pysocks`",
    ),
    ("urllib3", URLLIB3),
    ("http.client", "http.client reads no proxy variable; `urllib.request.urlopen(URL)` does"),
];

const STARTER_DIRECT: &[WordRemedy] = &[
    ("env -i ", "`env -i` clears the environment: remove `-i`"),
    ("env - ", "`env -` clears the environment: remove `-`"),
    (
        "sudo",
        "sudo clears the environment: remove it, or use `sudo --preserve-env` where sudoers allows \
         that",
    ),
    ("doas", "doas clears the environment: remove it, or use `keepenv`"),
];

const PYTHON_UNTRUSTED: &[WordRemedy] = &[
    ("stripe", STRIPE),
    ("Stripe", STRIPE),
    (
        "yt-dlp",
        "yt-dlp prefers certifi's file to that of SSL_CERT_FILE: `yt-dlp --compat-options no-certifi`",
    ),
    (
        "certifi.where",
        "certifi's file does not contain the CA: remove `certifi.where()`, or replace it by \
         `os.environ[\"SSL_CERT_FILE\"]`",
    ),
    (
        "verify=",
        "`verify=` names another CA file: remove it, or use \
         `verify=os.environ[\"REQUESTS_CA_BUNDLE\"]`",
    ),
    (
        "root_certificates",
        "`root_certificates` replaces the file of GRPC_DEFAULT_SSL_ROOTS_FILE_PATH: remove it, \
         `grpc.ssl_channel_credentials()`",
    ),
];

/// What words of its script tell, the most specific first.
fn by_word(stack: Stack, problem: ProxyProblem) -> &'static [WordRemedy] {
    match (stack, problem) {
        (Python, Direct) => PYTHON_DIRECT,
        (Bun, Direct) => &[(
            "WebSocket",
            "Bun has its own `ws`, which reads no proxy variable: `new WebSocket(URL, { proxy: \
             process.env.HTTPS_PROXY })`",
        )],
        (Docker, Direct) => &[(
            " run ",
            "a container has its own environment and files: `keyward env --for docker > FILE`, \
             then `--env-file FILE`",
        )],
        (Starter, Direct) => STARTER_DIRECT,
        (Chromium, Direct) => &[(
            "--no-proxy-server",
            "`--no-proxy-server` turns proxies off: `--proxy-server=http://LISTENER` in its place, \
             a listener of the agent's own",
        )],
        (Python, Unauthenticated) => &[("urllib3", URLLIB3)],
        (Python, Untrusted) => PYTHON_UNTRUSTED,
        (Node, Untrusted) => &[(
            "createSsl(",
            "roots given to `createSsl` replace those of GRPC_DEFAULT_SSL_ROOTS_FILE_PATH: remove \
             them, `grpc.credentials.createSsl()`",
        )],
        _ => &[],
    }
}

/// It does not use the proxy.
fn direct(stack: Stack) -> Option<&'static str> {
    Some(match stack {
        Python => {
            "its HTTP library does not read the proxy variables: httplib2 needs the package PySocks; \
             without Keyward's directory in PYTHONPATH (`python -E`), aiohttp needs `trust_env=True`, \
             urllib3 a `ProxyManager` with `proxy_headers`"
        }
        Node => {
            "it opens sockets of its own: what takes an `http.Agent` needs `agent: new \
             HttpsProxyAgent(process.env.HTTPS_PROXY)` (package https-proxy-agent), fetch and undici \
             `dispatcher: new EnvHttpProxyAgent()` (package undici)"
        }
        Bun => "it opens sockets itself; Bun's `fetch` reads the proxy variables",
        Deno => {
            "Deno's `fetch` and `WebSocket` read the proxy variables; `node:http2`, undici and `ws` need \
             `deno run --require=\"$(dirname \"$DENO_CERT\")/node-shim.cjs\"`"
        }
        Java => {
            "a `ProxySelector`, `-Dhttps.proxyHost` or `-Dhttps.proxyPort` of the program's own takes precedence \
             over JAVA_TOOL_OPTIONS: remove it"
        }
        Maven => {
            "an active `<proxy>` in settings.xml takes precedence over JAVA_TOOL_OPTIONS: remove it; Maven 3.9 and \
             newer read Java's options only with `-Daether.connector.http.useSystemProperties=true`, \
             which must stay in MAVEN_OPTS"
        }
        Gradle => {
            "`systemProp.https.proxyHost` and `systemProp.https.proxyPort` in a gradle.properties take precedence \
             over JAVA_TOOL_OPTIONS: remove them; a daemon keeps the environment that started it: \
             `gradle --stop`, and leave `-Dorg.gradle.daemon=false` in GRADLE_OPTS"
        }
        Docker => {
            "the docker daemon pulls with its own settings: `proxies` in /etc/docker/daemon.json"
        }
        Go => "an `http.Transport` of the program's own needs `Proxy: http.ProxyFromEnvironment`",
        Chromium => {
            "a proxy of the desktop's settings or of `--proxy-server` takes precedence over the variables: use \
             `--proxy-server=http://LISTENER`, a listener of the agent's own"
        }
        Git => "git uses the proxy only for https:// URLs: use one instead of ssh:// or git@HOST:",
        Unknown => {
            "if it calls an API, it ignores HTTPS_PROXY: check whether it has a proxy option"
        }
        _ => return None,
    })
}

/// It sends no credentials to the proxy.
fn unauthenticated(stack: Stack) -> Option<&'static str> {
    Some(match stack {
        Java => {
            "Java takes no proxy credentials from options: give the agent a listener of its own, whose \
             port `keyward run` and `keyward env` then put into JAVA_TOOL_OPTIONS \
             (`-Dhttps.proxyPort`), or the program an `Authenticator`"
        }
        Maven => {
            "Maven takes no proxy credentials from Java's options: give the agent a listener of its \
             own, whose port `keyward run` and `keyward env` then put into JAVA_TOOL_OPTIONS \
             (`-Dhttps.proxyPort`), or write `<username>` and `<password>` into the `<proxy>` of \
             settings.xml"
        }
        Gradle => {
            "give the agent a listener of its own, whose port `keyward run` and `keyward env` then put \
             into JAVA_TOOL_OPTIONS (`-Dhttps.proxyPort`), or write `systemProp.https.proxyUser` and \
             `systemProp.https.proxyPassword` into ~/.gradle/gradle.properties"
        }
        Chromium => {
            "Chromium drops the credentials of a proxy's URL: give it \
             `--proxy-server=http://LISTENER`, a listener of the agent's own, or, where it is driven, \
             the name and token by CDP (Playwright: `proxy: { server, username, password }`, \
             Puppeteer: `page.authenticate`); and its CA store needs the CA: `keyward ca show > \
             ca.pem`, then `certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n keyward -i ca.pem`"
        }
        Unknown => {
            "let it send the name and token from HTTPS_PROXY, or give the agent a listener \
             of its own"
        }
        _ => return None,
    })
}

/// It does not trust the CA.
fn untrusted(stack: Stack) -> Option<&'static str> {
    Some(match stack {
        Python => {
            "it verifies against its own CA file: replace it by `os.environ[\"SSL_CERT_FILE\"]`"
        }
        Node => {
            "`ca:` replaces Node's roots: add the file that NODE_EXTRA_CA_CERTS names, or remove \
             `ca:`"
        }
        Java => {
            "it has its own trust store: `keyward ca show > ca.pem`, then `keytool -importcert \
             -noprompt -alias keyward -file ca.pem -keystore STORE`"
        }
        Gradle => {
            "`systemProp.javax.net.ssl.trustStore` in a gradle.properties takes precedence over JAVA_TOOL_OPTIONS, \
             and a daemon keeps the environment that started it: `gradle --stop`"
        }
        Chromium => {
            "Chromium has its own CA store: `keyward ca show > ca.pem`, then `certutil -d \
             sql:$HOME/.pki/nssdb -A -t C,, -n keyward -i ca.pem`"
        }
        Docker => {
            "the docker daemon has its own roots: `keyward ca show > \
             /etc/docker/certs.d/HOST/ca.crt`"
        }
        Curl => "`--cacert` names another CA file: remove it",
        Unknown => {
            "it has its own roots: compiled in (rustls with webpki-roots: build it with native \
             roots), or in a file (look for an option that takes $SSL_CERT_FILE); a program that pins \
             certificates cannot use the proxy"
        }
        _ => return None,
    })
}

fn by_stack(stack: Stack, problem: ProxyProblem) -> Option<&'static str> {
    match problem {
        Direct => direct(stack),
        Unauthenticated => unauthenticated(stack),
        Untrusted => untrusted(stack),
    }
}

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

pub(super) fn of(
    program: &RecognisedProgram,
    problem: ProxyProblem,
    agent: &ProbedAgent,
) -> Remedy {
    let fits = |stack: Stack| {
        let mut words = by_word(stack, problem).iter().copied();
        let of_word = words.find(|(word, _)| program.has(word));
        of_word.or_else(|| Some(("", by_stack(stack, problem)?)))
    };
    let stacks = [program.stack, general(program.stack), Unknown];
    let (word, says) = stacks.into_iter().find_map(fits).unwrap_or_default();
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
    if takes_base_urls(program.stack) {
        let (name, connection) = (&agent.name, agent.connection.as_deref().unwrap_or("NAME"));
        hint.push_str(&format!(
            "; or, where the API's address can be set, give it a base URL: `keyward env --agent \
             {name} --base-url {connection}`"
        ));
    }
    let evidence = match (word, program.stack) {
        ("", Unknown) => Evidence::None,
        ("", _) => Evidence::Stack,
        _ => Evidence::Word,
    };
    Remedy { hint, evidence }
}

/// The stack whose remedies also apply.
fn general(stack: Stack) -> Stack {
    match stack {
        Maven | Gradle => Java,
        other => other,
    }
}

/// Whether programs of this stack are often API clients with a configurable address. Browsers and tools with
/// a fixed server are not.
fn takes_base_urls(stack: Stack) -> bool {
    matches!(stack, Python | Node | Bun | Deno | Java | Go | Unknown)
}

/// The client whose configuration files may override the proxy.
pub(super) fn client_of(stack: Stack) -> Option<&'static str> {
    match stack {
        Git => Some("git"),
        Npm => Some("npm"),
        Pip => Some("pip"),
        Curl => Some("curl"),
        Gradle => Some("gradle"),
        Stack::Cargo => Some("cargo"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: &[Stack] = &[
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
        Stack::Cargo,
        Go,
        Unknown,
    ];

    fn agent() -> ProbedAgent {
        ProbedAgent { name: "ci".to_owned(), ..ProbedAgent::default() }
    }

    fn hint(stack: Stack, problem: ProxyProblem, text: &str, agent: &ProbedAgent) -> String {
        of(&RecognisedProgram { stack, text: text.to_owned() }, problem, agent).hint
    }

    #[test]
    fn every_problem_of_every_stack_has_a_remedy() {
        for stack in EVERY {
            for problem in [Direct, Unauthenticated, Untrusted] {
                assert!(hint(*stack, problem, "", &agent()).len() > 20, "{stack:?} {problem:?}");
            }
        }
    }

    #[test]
    fn no_remedy_row_is_shadowed_by_an_earlier_row() {
        for stack in EVERY.iter().copied().chain([Starter]) {
            for problem in [Direct, Unauthenticated, Untrusted] {
                let rows = by_word(stack, problem);
                for (at, (word, _)) in rows.iter().enumerate() {
                    let is_shadowed = rows[..at].iter().any(|(other, _)| word.contains(other));
                    assert!(!word.is_empty() && !is_shadowed, "{stack:?} {problem:?} {word}");
                }
            }
        }
    }

    #[test]
    fn a_script_with_certificates_of_its_own_does_not_get_the_remedy_for_certifi() {
        let of = |script: &str| hint(Python, Untrusted, script, &agent());
        let grpc = of("grpc.ssl_channel_credentials(root_certificates=own)");
        assert!(grpc.contains("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"), "{grpc}");
        assert!(!of("# checks certificates").contains("certifi's file"));
    }

    #[test]
    fn yt_dlp_gets_the_option_that_makes_it_read_the_bundle() {
        let of = |command: &str| hint(Python, Untrusted, command, &agent());
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
        for stack in [Java, Maven, Gradle, Chromium, Git, Unknown] {
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
        for stack in [Java, Maven, Gradle] {
            let told = hint(stack, Unauthenticated, "", &agent());
            assert!(told.contains(advice), "{told}");
        }
    }

    #[test]
    fn remedies_offer_the_base_url_of_the_only_connection_to_api_clients() {
        let one = ProbedAgent { connection: Some("work-openai".to_owned()), ..agent() };
        for stack in EVERY {
            for problem in [Direct, Unauthenticated, Untrusted] {
                let told = hint(*stack, problem, "", &one);
                let offered = told.contains("`keyward env --agent ci --base-url work-openai`");
                assert_eq!(offered, takes_base_urls(*stack), "{stack:?}: {told}");
            }
        }
        assert!(hint(Go, Direct, "", &agent()).contains("--base-url NAME`"));
    }
}
