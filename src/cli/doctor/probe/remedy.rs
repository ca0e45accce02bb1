//! What a program needs, by its stack and what went wrong: facts about clients, as data. The first
//! line that fits is told.

use super::stack::{Recognised, Stack};

/// What went wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Trouble {
    /// It does not ask the proxy.
    Direct,
    /// It sends no credentials to the proxy.
    Unauthenticated,
    /// It does not trust the CA.
    Untrusted,
}

/// Stack, trouble, a word of the script (empty: any), and what to do.
type Remedy = (Stack, Trouble, &'static str, &'static str);

const OWN_LISTENER: &str = "`listen: { agents: [{ agent: NAME, at: \"127.0.0.1:8090\", \
                            unsafe_no_auth: true }] }`";

use Stack::{Chromium, Curl, Docker, Git, Go, Java, Node, Npm, Pip, Python, Starter, Unknown};
use Trouble::{Direct, Unauthenticated, Untrusted};

const REMEDIES: &[Remedy] = &[
    (
        Python,
        Direct,
        "ProxyHandler({})",
        "`ProxyHandler({})` turns the proxy variables off: leave it out",
    ),
    (
        Python,
        Direct,
        "trust_env=False",
        "`trust_env=False` turns the proxy variables off: leave it out",
    ),
    (
        Python,
        Direct,
        "trust_env = False",
        "`trust_env = False` turns the proxy variables off: leave it out",
    ),
    (
        Python,
        Direct,
        "aiohttp",
        "aiohttp reads the proxy variables only when told to: `ClientSession(trust_env=True)`",
    ),
    (
        Python,
        Direct,
        "httplib2",
        "httplib2 goes straight without the package PySocks: `pip install pysocks`",
    ),
    (
        Python,
        Direct,
        "googleapiclient",
        "googleapiclient uses httplib2, which goes straight without the package PySocks: \
         `pip install pysocks`",
    ),
    (
        Python,
        Direct,
        "urllib3",
        "urllib3 itself reads no variable: `urllib3.ProxyManager(os.environ[\"HTTPS_PROXY\"])`",
    ),
    (
        Python,
        Direct,
        "http.client",
        "http.client reads no variable: use urllib.request, or connect to the proxy and \
         `set_tunnel`",
    ),
    (
        Python,
        Direct,
        "",
        "its HTTP library does not read the proxy variables: aiohttp needs `trust_env=True`, \
         urllib3 a `ProxyManager`, httplib2 the package PySocks",
    ),
    (
        Node,
        Direct,
        "http2",
        "`http2.connect` opens a socket of its own: give it one through the proxy with \
         `createConnection`",
    ),
    (
        Node,
        Direct,
        "",
        "it opens sockets of its own, as `ws` does: pass `agent: new \
         HttpsProxyAgent(process.env.HTTPS_PROXY)` (package https-proxy-agent)",
    ),
    (
        Java,
        Direct,
        "",
        "a `ProxySelector` or `-Dhttps.proxyHost` of the program's own wins over \
         JAVA_TOOL_OPTIONS: leave it out",
    ),
    (
        Docker,
        Direct,
        " run ",
        "a container has an environment and files of its own: `keyward env --for docker > FILE`, \
         then `--env-file FILE`",
    ),
    (
        Docker,
        Direct,
        "",
        "the docker daemon pulls with settings of its own: `proxies` in /etc/docker/daemon.json",
    ),
    (
        Go,
        Direct,
        "",
        "an `http.Transport` of the program's own needs `Proxy: http.ProxyFromEnvironment`",
    ),
    (Starter, Direct, "env -i ", "`env -i` clears the environment: leave `-i` out"),
    (Starter, Direct, "env - ", "`env -` clears the environment: leave `-` out"),
    (
        Starter,
        Direct,
        "sudo",
        "sudo clears the environment: leave it out, or `sudo --preserve-env` where sudoers allows \
         that",
    ),
    (Starter, Direct, "doas", "doas clears the environment: leave it out, or `keepenv` it"),
    (Chromium, Direct, "", "give it `--proxy-server=127.0.0.1:8090`, a listener of one agent"),
    (
        Git,
        Direct,
        "",
        "git uses the proxy for https:// alone: use such a URL instead of ssh:// or git@HOST:",
    ),
    (
        Unknown,
        Direct,
        "",
        "if it calls an API, it ignores HTTPS_PROXY: look for a proxy option of its own; without \
         one it cannot use the gateway",
    ),
    (
        Java,
        Unauthenticated,
        "",
        "Java takes no proxy credentials from options: give the program an `Authenticator`, or \
         the agent a listener of its own: ",
    ),
    (
        Chromium,
        Unauthenticated,
        "",
        "Chromium drops credentials from the proxy's URL: give the agent a listener of its own, \
         and Chromium `--proxy-server=127.0.0.1:8090`: ",
    ),
    (
        Unknown,
        Unauthenticated,
        "",
        "let it send the name and token that stand in HTTPS_PROXY, or give the agent a listener \
         of its own: ",
    ),
    (
        Python,
        Untrusted,
        "stripe",
        "stripe-python brings its own CA file: `stripe.ca_bundle_path = \
         os.environ[\"SSL_CERT_FILE\"]`",
    ),
    (
        Python,
        Untrusted,
        "Stripe",
        "stripe-python brings its own CA file: `stripe.ca_bundle_path = \
         os.environ[\"SSL_CERT_FILE\"]`",
    ),
    (
        Python,
        Untrusted,
        "certifi",
        "certifi's file does not hold the CA: leave `certifi.where()` out, or put \
         `os.environ[\"SSL_CERT_FILE\"]` in its place",
    ),
    (
        Python,
        Untrusted,
        "verify=",
        "`verify=` names another CA file: leave it out, or \
         `verify=os.environ[\"REQUESTS_CA_BUNDLE\"]`",
    ),
    (
        Python,
        Untrusted,
        "",
        "it verifies against a CA file of its own: `os.environ[\"SSL_CERT_FILE\"]` belongs in \
         its place",
    ),
    (
        Node,
        Untrusted,
        "",
        "`ca:` replaces Node's roots: add the file that NODE_EXTRA_CA_CERTS names, or leave it \
         out",
    ),
    (
        Java,
        Untrusted,
        "",
        "it has a trust store of its own: `keyward ca show > ca.pem`, then `keytool -importcert \
         -noprompt -alias keyward -file ca.pem -keystore STORE`",
    ),
    (
        Chromium,
        Untrusted,
        "",
        "Chromium has a CA store of its own: `keyward ca show > ca.pem`, then `certutil -d \
         sql:$HOME/.pki/nssdb -A -t C,, -n keyward -i ca.pem`",
    ),
    (
        Docker,
        Untrusted,
        "",
        "the docker daemon has roots of its own: `keyward ca show > \
         /etc/docker/certs.d/HOST/ca.crt`",
    ),
    (Curl, Untrusted, "", "`--cacert` names another CA file: leave it out"),
    (
        Unknown,
        Untrusted,
        "",
        "it has roots of its own: compiled in (rustls with webpki-roots: build it with native \
         roots), or in a file (look for an option that takes $SSL_CERT_FILE); a program that pins \
         certificates cannot use the gateway",
    ),
];

/// What to do for a program in trouble.
pub(super) fn of(program: &Recognised, trouble: Trouble, agent: &str) -> String {
    let fits = |stack: Stack| {
        REMEDIES.iter().find(move |(of, when, word, _)| {
            *of == stack && *when == trouble && (word.is_empty() || program.has(word))
        })
    };
    let known = fits(program.stack).or_else(|| fits(Unknown));
    let says = known.map_or("", |(_, _, _, says)| says);
    match trouble {
        Unauthenticated => format!("{says}{}", OWN_LISTENER.replace("NAME", agent)),
        Direct | Untrusted => says.to_owned(),
    }
}

/// The client whose files may send a program elsewhere.
pub(super) fn client_of(stack: Stack) -> Option<&'static str> {
    match stack {
        Git => Some("git"),
        Npm => Some("npm"),
        Pip => Some("pip"),
        Curl => Some("curl"),
        Stack::Cargo => Some("cargo"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_remedy_for_every_trouble_of_every_stack() {
        let every =
            [Python, Node, Java, Git, Docker, Chromium, Curl, Npm, Pip, Stack::Cargo, Go, Unknown];
        for stack in every {
            let program = Recognised { stack, text: String::new() };
            for trouble in [Direct, Unauthenticated, Untrusted] {
                assert!(of(&program, trouble, "ci").len() > 20, "{stack:?} {trouble:?}");
            }
        }
    }

    #[test]
    fn no_line_is_hidden_by_one_before_it() {
        for (at, (stack, trouble, word, _)) in REMEDIES.iter().enumerate() {
            let hides = |(of, when, other, _): &Remedy| {
                of == stack && when == trouble && (other.is_empty() || other == word)
            };
            assert!(!REMEDIES[..at].iter().any(hides), "{stack:?} {trouble:?} {word}");
        }
    }
}
