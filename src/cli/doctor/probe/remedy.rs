//! The table of remedies, by HTTP stack and problem. The first line that matches is printed. `LISTENER`
//! means the address of the agent's own listener.

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

/// Stack, problem, a word of the script (empty: any), and the hint.
type RemedyRow = (Stack, ProxyProblem, &'static str, &'static str);

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

const REMEDIES: &[RemedyRow] = &[
    (
        Python,
        Direct,
        "ProxyHandler({})",
        "`ProxyHandler({})` disables the proxy variables: remove it",
    ),
    (
        Python,
        Direct,
        "trust_env=False",
        "`trust_env=False` disables the proxy variables: remove it",
    ),
    (
        Python,
        Direct,
        "trust_env = False",
        "`trust_env = False` disables the proxy variables: remove it",
    ),
    (
        Python,
        Direct,
        "grpc.enable_http_proxy",
        "the channel option `grpc.enable_http_proxy` disables the proxy variables: remove it",
    ),
    (
        Python,
        Direct,
        "aiohttp",
        "aiohttp reads the proxy variables only on request: `aiohttp.ClientSession(trust_env=True)`",
    ),
    (
        Python,
        Direct,
        "httplib2",
        "httplib2 ignores the proxy without the package PySocks: `pip install pysocks`",
    ),
    (
        Python,
        Direct,
        "googleapiclient",
        "googleapiclient uses httplib2, which ignores the proxy without the package PySocks: \
         `pip install pysocks`",
    ),
    (Python, Direct, "urllib3", URLLIB3),
    (
        Python,
        Direct,
        "http.client",
        "http.client reads no proxy variable; `urllib.request.urlopen(URL)` does",
    ),
    (
        Python,
        Direct,
        "",
        "its HTTP library does not read the proxy variables: aiohttp needs `trust_env=True`, \
         urllib3 a `ProxyManager` with `proxy_headers`, httplib2 the package PySocks",
    ),
    (
        Node,
        Direct,
        "",
        "it opens sockets of its own: what takes an `http.Agent` needs `agent: new \
         HttpsProxyAgent(process.env.HTTPS_PROXY)` (package https-proxy-agent), fetch and undici \
         `dispatcher: new EnvHttpProxyAgent()` (package undici)",
    ),
    (
        Bun,
        Direct,
        "WebSocket",
        "Bun has its own `ws`, which reads no proxy variable: `new WebSocket(URL, { proxy: \
         process.env.HTTPS_PROXY })`",
    ),
    (Bun, Direct, "", "it opens sockets itself; Bun's `fetch` reads the proxy variables"),
    (
        Deno,
        Direct,
        "",
        "Deno's `fetch` and `WebSocket` read the proxy variables; `node:http2`, undici and `ws` need \
         `deno run --require=\"$(dirname \"$DENO_CERT\")/node-shim.cjs\"`",
    ),
    (
        Java,
        Direct,
        "",
        "a `ProxySelector`, `-Dhttps.proxyHost` or `-Dhttps.proxyPort` of the program's own takes precedence \
         over JAVA_TOOL_OPTIONS: remove it",
    ),
    (
        Maven,
        Direct,
        "",
        "an active `<proxy>` in settings.xml takes precedence over JAVA_TOOL_OPTIONS: remove it; Maven 3.9 and \
         newer read Java's options only with `-Daether.connector.http.useSystemProperties=true`, \
         which must stay in MAVEN_OPTS",
    ),
    (
        Gradle,
        Direct,
        "",
        "`systemProp.https.proxyHost` and `systemProp.https.proxyPort` in a gradle.properties take precedence \
         over JAVA_TOOL_OPTIONS: remove them; a daemon keeps the environment that started it: \
         `gradle --stop`, and leave `-Dorg.gradle.daemon=false` in GRADLE_OPTS",
    ),
    (
        Docker,
        Direct,
        " run ",
        "a container has its own environment and files: `keyward env --for docker > FILE`, \
         then `--env-file FILE`",
    ),
    (
        Docker,
        Direct,
        "",
        "the docker daemon pulls with its own settings: `proxies` in /etc/docker/daemon.json",
    ),
    (
        Go,
        Direct,
        "",
        "an `http.Transport` of the program's own needs `Proxy: http.ProxyFromEnvironment`",
    ),
    (Starter, Direct, "env -i ", "`env -i` clears the environment: remove `-i`"),
    (Starter, Direct, "env - ", "`env -` clears the environment: remove `-`"),
    (
        Starter,
        Direct,
        "sudo",
        "sudo clears the environment: remove it, or use `sudo --preserve-env` where sudoers allows \
         that",
    ),
    (Starter, Direct, "doas", "doas clears the environment: remove it, or use `keepenv`"),
    (
        Chromium,
        Direct,
        "--no-proxy-server",
        "`--no-proxy-server` turns proxies off: `--proxy-server=http://LISTENER` in its place, \
         a listener of the agent's own",
    ),
    (
        Chromium,
        Direct,
        "",
        "a proxy of the desktop's settings or of `--proxy-server` takes precedence over the variables: use \
         `--proxy-server=http://LISTENER`, a listener of the agent's own",
    ),
    (
        Git,
        Direct,
        "",
        "git uses the proxy only for https:// URLs: use one instead of ssh:// or git@HOST:",
    ),
    (
        Unknown,
        Direct,
        "",
        "if it calls an API, it ignores HTTPS_PROXY: check whether it has a proxy option",
    ),
    (Python, Unauthenticated, "urllib3", URLLIB3),
    (
        Java,
        Unauthenticated,
        "",
        "Java takes no proxy credentials from options: give the agent a listener of its own, whose \
         port `keyward run` and `keyward env` then put into JAVA_TOOL_OPTIONS \
         (`-Dhttps.proxyPort`), or the program an `Authenticator`",
    ),
    (
        Maven,
        Unauthenticated,
        "",
        "Maven takes no proxy credentials from Java's options: give the agent a listener of its \
         own, whose port `keyward run` and `keyward env` then put into JAVA_TOOL_OPTIONS \
         (`-Dhttps.proxyPort`), or write `<username>` and `<password>` into the `<proxy>` of \
         settings.xml",
    ),
    (
        Gradle,
        Unauthenticated,
        "",
        "give the agent a listener of its own, whose port `keyward run` and `keyward env` then put \
         into JAVA_TOOL_OPTIONS (`-Dhttps.proxyPort`), or write `systemProp.https.proxyUser` and \
         `systemProp.https.proxyPassword` into ~/.gradle/gradle.properties",
    ),
    (
        Chromium,
        Unauthenticated,
        "",
        "Chromium drops the credentials of a proxy's URL: give it \
         `--proxy-server=http://LISTENER`, a listener of the agent's own, or, where it is driven, \
         the name and token by CDP (Playwright: `proxy: { server, username, password }`, \
         Puppeteer: `page.authenticate`); and its CA store needs the CA: `keyward ca show > \
         ca.pem`, then `certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n keyward -i ca.pem`",
    ),
    (
        Unknown,
        Unauthenticated,
        "",
        "let it send the name and token from HTTPS_PROXY, or give the agent a listener \
         of its own",
    ),
    (Python, Untrusted, "stripe", STRIPE),
    (Python, Untrusted, "Stripe", STRIPE),
    (
        Python,
        Untrusted,
        "yt-dlp",
        "yt-dlp prefers certifi's file to that of SSL_CERT_FILE: `yt-dlp --compat-options no-certifi`",
    ),
    (
        Python,
        Untrusted,
        "certifi",
        "certifi's file does not contain the CA: remove `certifi.where()`, or replace it by \
         `os.environ[\"SSL_CERT_FILE\"]`",
    ),
    (
        Python,
        Untrusted,
        "verify=",
        "`verify=` names another CA file: remove it, or use \
         `verify=os.environ[\"REQUESTS_CA_BUNDLE\"]`",
    ),
    (
        Python,
        Untrusted,
        "root_certificates",
        "`root_certificates` replaces the file of GRPC_DEFAULT_SSL_ROOTS_FILE_PATH: remove it, \
         `grpc.ssl_channel_credentials()`",
    ),
    (
        Python,
        Untrusted,
        "",
        "it verifies against its own CA file: replace it by `os.environ[\"SSL_CERT_FILE\"]`",
    ),
    (
        Node,
        Untrusted,
        "createSsl(",
        "roots given to `createSsl` replace those of GRPC_DEFAULT_SSL_ROOTS_FILE_PATH: remove \
         them, `grpc.credentials.createSsl()`",
    ),
    (
        Node,
        Untrusted,
        "",
        "`ca:` replaces Node's roots: add the file that NODE_EXTRA_CA_CERTS names, or remove \
         `ca:`",
    ),
    (
        Java,
        Untrusted,
        "",
        "it has its own trust store: `keyward ca show > ca.pem`, then `keytool -importcert \
         -noprompt -alias keyward -file ca.pem -keystore STORE`",
    ),
    (
        Gradle,
        Untrusted,
        "",
        "`systemProp.javax.net.ssl.trustStore` in a gradle.properties takes precedence over JAVA_TOOL_OPTIONS, \
         and a daemon keeps the environment that started it: `gradle --stop`",
    ),
    (
        Chromium,
        Untrusted,
        "",
        "Chromium has its own CA store: `keyward ca show > ca.pem`, then `certutil -d \
         sql:$HOME/.pki/nssdb -A -t C,, -n keyward -i ca.pem`",
    ),
    (
        Docker,
        Untrusted,
        "",
        "the docker daemon has its own roots: `keyward ca show > \
         /etc/docker/certs.d/HOST/ca.crt`",
    ),
    (Curl, Untrusted, "", "`--cacert` names another CA file: remove it"),
    (
        Unknown,
        Untrusted,
        "",
        "it has its own roots: compiled in (rustls with webpki-roots: build it with native \
         roots), or in a file (look for an option that takes $SSL_CERT_FILE); a program that pins \
         certificates cannot use the proxy",
    ),
];

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
        REMEDIES.iter().find(move |(of, when, word, _)| {
            *of == stack && *when == problem && (word.is_empty() || program.has(word))
        })
    };
    let stacks = [program.stack, general(program.stack), Unknown];
    let known = stacks.into_iter().find_map(fits);
    let (word, says) = known.map_or(("", ""), |(_, _, word, says)| (*word, *says));
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
        for (at, (stack, problem, word, _)) in REMEDIES.iter().enumerate() {
            let hides = |(of, when, other, _): &RemedyRow| {
                of == stack && when == problem && (other.is_empty() || other == word)
            };
            assert!(!REMEDIES[..at].iter().any(hides), "{stack:?} {problem:?} {word}");
        }
    }

    #[test]
    fn yt_dlp_gets_the_option_that_makes_it_read_the_bundle() {
        let of = |command: &str| hint(Python, Untrusted, command, &agent());
        assert!(!of("/usr/bin/python3 -m certifi").contains("no-certifi"));
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
