//! `keyward doctor -- CMD` with real programs that would not use the gateway: it names what each of them needs.

use serde_json::Value;

use crate::remedies::code_in;
use crate::stage::{installed, node20, run, said, succeeded};
use test_support::install::Install;
use test_support::*;

const PROXY_TURNED_OFF: &str = "
import urllib.request
urllib.request.build_opener(urllib.request.ProxyHandler({})).open('https://api.acme.test/a')
";
const OWN_CA_FILE: &str = "
import certifi, requests
requests.get('https://api.acme.test/a', verify=certifi.where(), timeout=20)
";
/// It opens its own connection.
const HTTP2: &str = "
const session = require('http2').connect('https://api.acme.test');
session.on('error', () => process.exit(1));
session.request({ ':path': '/a' }).on('end', () => session.close()).resume();
";
const JAVA: &str = "
import java.net.URI;
import java.net.http.*;
public class Get {
    public static void main(String[] words) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(words[0])).build();
        var answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        System.out.println(answer.statusCode());
    }
}
";

/// The one check that failed: id, message and hint; `file` stands in the home with `text`.
async fn failed(program: &[&str], (file, text): (&str, &str)) -> [String; 3] {
    let (install, origin) = Install::simple();
    std::fs::write(install.folder().join(file), text).expect("a file");
    let mut command = install.keyward(&["doctor", "--json", "--"]);
    command.args(program);
    let output = run(command).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect(&said);
    let checks = report["checks"].as_array().expect("a list");
    let failed: Vec<_> = checks.iter().filter(|check| check["status"] == "fail").collect();
    assert_eq!(failed.len(), 1, "{report:#}\n{said}");
    assert_eq!(origin.streams(), 0, "nothing goes out");
    let folder = install.folder().display().to_string();
    ["id", "message", "hint"].map(|name| {
        let text = failed[0][name].as_str().unwrap_or_default();
        text.replace(&folder, "HOME")
    })
}

const NO_FILE: (&str, &str) = ("nothing", "");

#[tokio::test]
async fn curl_python_and_http2_of_node_are_fine() {
    let python = "import urllib.request; urllib.request.urlopen('https://api.acme.test/a')";
    let node = node20().display().to_string();
    let programs: [&[&str]; 3] = [
        &["curl", "-sS", "https://api.acme.test/a"],
        &["python3", "-c", python],
        &[&node, "-e", HTTP2],
    ];
    for program in programs {
        let (install, _origin) = Install::simple();
        let mut command = install.keyward(&["doctor", "--"]);
        command.args(program);
        let output = run(command).await;
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{program:?}: {said}");
        assert!(said.contains("api.acme.test: it uses the proxy and trusts the CA"), "{said}");
    }
}

#[tokio::test]
async fn python_without_its_variables_that_turns_the_proxy_off_gets_a_hint_to_remove_that() {
    let [id, message, hint] = failed(&["python3", "-E", "-c", PROXY_TURNED_OFF], NO_FILE).await;
    assert_eq!(id, "proxy");
    assert!(message.starts_with("saw no connection to the proxy"), "{message}");
    let expected = "guess: `ProxyHandler({})` disables the proxy variables: remove it";
    assert!(hint.starts_with(expected), "{hint}");
}

#[tokio::test]
async fn requests_with_its_own_ca_file_is_reported_not_to_trust_the_ca() {
    let python = installed("real-venv/bin/python").display().to_string();
    let [id, message, hint] = failed(&[&python, "-E", "app.py"], ("app.py", OWN_CA_FILE)).await;
    assert_eq!(id, "tls");
    assert_eq!(message, "api.acme.test: it does not trust the CA (UnknownCA)");
    let expected = "guess: certifi's file does not contain the CA: remove `certifi.where()`, or \
                    replace it by `os.environ[\"SSL_CERT_FILE\"]`";
    assert!(hint.starts_with(expected), "{hint}");
}

#[tokio::test]
async fn java_without_java_tool_options_gets_a_hint_to_extend_it() {
    let program = ["env", "-u", "JAVA_TOOL_OPTIONS", "java", "Get.java", "https://api.acme.test/a"];
    let [id, message, hint] = failed(&program, ("Get.java", JAVA)).await;
    assert_eq!(id, "proxy");
    assert!(message.contains("JAVA_TOOL_OPTIONS does not reach `java`"), "{message}");
    let expected = "extend it where it is set, instead of replacing it: \
                    `JAVA_TOOL_OPTIONS=\"$JAVA_TOOL_OPTIONS …\"`";
    assert_eq!(hint, expected);
}

#[tokio::test]
async fn java_without_an_authenticator_gets_a_hint_to_open_a_listener() {
    let program = ["java", "Get.java", "https://api.acme.test/a"];
    let [id, _, hint] = failed(&program, ("Get.java", JAVA)).await;
    assert_eq!(id, "auth");
    let expected = "guess: Java takes no proxy credentials from options: give the agent a listener \
                    of its own, whose port `keyward run` and `keyward env` then put into \
                    JAVA_TOOL_OPTIONS (`-Dhttps.proxyPort`)";
    assert!(hint.starts_with(expected), "{hint}");
    let line = "`listen: { agents: [{ agent: default, at: \"127.0.0.1:8090\", unsafe_no_auth: \
                true }] }`";
    assert!(hint.contains(line), "{hint}");
    let page = include_str!("../../docs/guides/java.md");
    assert!(!page.contains("java -Dhttps.proxyHost"), "doctor says to leave such options out");
    assert!(page.contains("`-Dhttps.proxyPort`"), "{page}");
}

#[tokio::test]
async fn maven_and_gradle_are_reported_to_send_no_credentials_to_the_proxy() {
    let pom = include_str!("programs/maven/pom.xml");
    let maven = ["mvn", "--batch-mode", "-Dmaven.repo.local=repo", "validate"];
    let [id, message, hint] = failed(&maven, ("pom.xml", pom)).await;
    assert_eq!(id, "auth");
    assert_eq!(message, "maven.acme.test: it sends no credentials to the proxy");
    assert!(hint.starts_with("guess: Maven takes no proxy credentials from Java's"), "{hint}");
    let build = include_str!("programs/gradle/build.gradle");
    let gradle = "mkdir home && echo 'org.gradle.jvmargs=--add-opens java.base/java.lang=ALL-UNNAMED' \
                  > home/gradle.properties && gradle --gradle-user-home home --quiet show";
    let [id, message, hint] = failed(&["sh", "-c", gradle], ("build.gradle", build)).await;
    assert_eq!(id, "auth");
    assert_eq!(message, "maven.acme.test: it sends no credentials to the proxy");
    assert!(hint.contains("`systemProp.https.proxyUser`"), "{hint}");
}

#[tokio::test]
async fn a_program_that_fails_before_it_connects_is_not_said_to_ignore_the_proxy() {
    let python = installed("real-venv/bin/python").display().to_string();
    let script = "import os, aiohttp\nos.environ['NO_SUCH_KEY']\n";
    let [id, message, hint] = failed(&[&python, "app.py"], ("app.py", script)).await;
    // aiohttp would be a reason, had it come so far.
    let says = "saw no connection to the proxy or elsewhere; the program ended with exit code 1";
    assert_eq!((&*id, &*message), ("proxy", says));
    assert!(hint.starts_with("guess: aiohttp reads the proxy variables only on request"), "{hint}");
    assert!(hint.ends_with("Or it failed before it would connect: see its output"), "{hint}");
    let script = "import os\nos.environ['NO_SUCH_KEY']\n";
    let [id, message, hint] = failed(&[&python, "app.py"], ("app.py", script)).await;
    let says = "saw no connection to the proxy or elsewhere; the program ended with exit code 1";
    assert_eq!((&*id, &*message), ("program", says));
    let says = "guess: it failed before it would connect: see its output. Or else: ";
    assert!(hint.starts_with(says), "{hint}");
}

/// A call of grpcio, which speaks HTTP/2 alone.
const GRPC: &str = "
import grpc
with grpc.secure_channel('api.acme.test:443', grpc.ssl_channel_credentials()) as channel:
    call = channel.unary_unary('/acme.Test/Unary')
    try:
        call(b'', timeout=60)
    except grpc.RpcError as error:
        print(error.code(), error.details())
";

#[tokio::test]
async fn grpcio_passes_and_its_call_gets_a_status() {
    let (install, origin) = Install::simple();
    let mut command = install.keyward(&["doctor", "--"]);
    command.arg(installed("real-venv/bin/python")).args(["-c", GRPC]);
    let output = run(command).await;
    let said = said(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("StatusCode.UNIMPLEMENTED keyward doctor answers no call"), "{said}");
    assert!(said.contains("api.acme.test: it uses the proxy and trusts the CA"), "{said}");
    assert_eq!(origin.streams(), 0, "nothing goes out");
}

/// A browser that shows a page, in a home of its own.
const CHROMIUM: &str = "
chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \\
    --disable-background-networking --user-data-dir=profile $OPTION --dump-dom \\
    https://api.acme.test/page";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_gets_one_hint_after_the_other_until_it_passes_and_no_credential() {
    let origin = Origin::saying("fine");
    let listen = "agents: [{ agent: ci, at: '127.0.0.1:0', unsafe_no_auth: true }]";
    let install = Install::new(&Plan::api_key().listen(listen), &origin);
    let _gateway = install.serve();
    let own = install.status()["agents"][0]["at"].as_str().expect("an address").to_owned();
    let doctor = async |option: String| {
        let words = ["doctor", "--json", "--agent", "ci", "--", "sh", "-c", CHROMIUM];
        let mut command = install.keyward(&words);
        command.env("OPTION", option);
        let output = run(command).await;
        let said = said(&output);
        let report: Value = serde_json::from_slice(&output.stdout).expect(&said);
        let checks = report["checks"].as_array().expect("a list").clone();
        let of = |check: &&Value| {
            let message = check["message"].as_str().unwrap_or_default();
            message.starts_with("api.acme.test: ")
        };
        let check = checks.iter().find(of).unwrap_or_else(|| panic!("{report:#}\n{said}")).clone();
        let text = |name: &str| check[name].as_str().unwrap_or_default().to_owned();
        [text("id"), text("message"), text("hint")]
    };
    let [id, message, hint] = doctor(String::new()).await;
    assert_eq!(id, "auth", "{message}");
    assert!(!message.contains("does not reach"), "no variable is lost: {message}");
    let option = format!("`--proxy-server=http://{own}`");
    assert!(hint.contains(&option) && hint.contains("page.authenticate"), "{hint}");

    let option = code_in(&hint, "--proxy-server=");
    let [id, message, hint] = doctor(option.clone()).await;
    assert_eq!(id, "tls", "{message}");
    assert!(!message.contains("does not reach"), "no variable is lost: {message}");
    let made = "mkdir -p .pki/nssdb && certutil -d sql:.pki/nssdb -N --empty-password";
    let show = code_in(&hint, "keyward ca show").replace("keyward ", "\"$KEYWARD\" ");
    let line = format!("{made}; {show}; {}", code_in(&hint, "certutil -d"));
    let keyward = install.keyward(&[]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-ec", &line]).envs(keyward.get_envs().filter_map(|(k, v)| Some((k, v?))));
    shell.env("KEYWARD", keyward.get_program()).current_dir(install.folder());
    succeeded(shell).await;

    let [id, message, _] = doctor(option).await;
    assert_eq!(id, "request", "{message}");
    let says = "api.acme.test: it uses the listener of agent ci and trusts the CA; no credential; \
                the gateway adds it";
    assert_eq!(message, says);
    assert_eq!(origin.streams(), 0, "nothing went out");
    let exchanges = install.audit().into_iter().filter(|record| record["change"].is_null());
    assert_eq!(exchanges.count(), 0, "the gateway served nothing");
}

#[tokio::test]
async fn a_proxy_in_the_configuration_of_git_is_reported_with_its_line() {
    let config = "[http]\n\tproxy = http://127.0.0.1:1\n";
    let program = ["git", "ls-remote", "https://api.acme.test/a.git"];
    let [id, message, hint] = failed(&program, (".gitconfig", config)).await;
    assert_eq!(id, "proxy");
    assert!(message.contains("HOME/.gitconfig:2 sets `http.proxy`"), "{message}");
    assert_eq!(hint, "remove line 2 of HOME/.gitconfig");
}

#[tokio::test]
async fn a_proxy_in_the_configuration_of_npm_is_reported_with_its_line() {
    let program = ["npm", "view", "left-pad", "--fetch-retries=0"];
    let npmrc = (".npmrc", "https-proxy=http://127.0.0.1:1\n");
    let [id, message, hint] = failed(&program, npmrc).await;
    assert_eq!(id, "proxy");
    assert!(message.contains("HOME/.npmrc:1 sets `https-proxy`"), "{message}");
    assert_eq!(hint, "remove line 1 of HOME/.npmrc");
}

#[tokio::test]
async fn roots_in_the_configuration_of_curl_are_reported_with_their_line() {
    let roots = "cacert = \"roots.pem\"\n";
    let origin = &pki::pki().pem;
    let program = [
        "sh",
        "-c",
        &format!("printf %s '{origin}' > roots.pem; curl -sS https://api.acme.test/a"),
    ];
    let [id, message, hint] = failed(&program, (".curlrc", roots)).await;
    assert_eq!(id, "tls");
    assert!(message.contains("HOME/.curlrc:1 sets `cacert`"), "{message}");
    assert_eq!(hint, "remove line 1 of HOME/.curlrc");
}
