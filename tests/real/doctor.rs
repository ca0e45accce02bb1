//! `keyward doctor -- CMD` with real programs that would not use the gateway: it names what each of
//! them needs.

use serde_json::Value;

use crate::stage::{installed, run};
use crate::support::install::Install;
use crate::support::*;

const PROXY_TURNED_OFF: &str = "
import urllib.request
urllib.request.build_opener(urllib.request.ProxyHandler({})).open('https://api.acme.test/a')
";
const OWN_CA_FILE: &str = "
import certifi, requests
requests.get('https://api.acme.test/a', verify=certifi.where(), timeout=20)
";
const HTTP2: &str = "
require('http2').connect('https://api.acme.test').on('error', () => process.exit(1));
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
    let origin = Origin::saying("fine").await;
    let install = Install::new(&Plan::api_key(), &origin);
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
async fn curl_and_python_are_fine() {
    let python = "import urllib.request; urllib.request.urlopen('https://api.acme.test/a')";
    let programs: [&[&str]; 2] =
        [&["curl", "-sS", "https://api.acme.test/a"], &["python3", "-c", python]];
    for program in programs {
        let origin = Origin::saying("fine").await;
        let install = Install::new(&Plan::api_key(), &origin);
        let mut command = install.keyward(&["doctor", "--"]);
        command.args(program);
        let output = run(command).await;
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{program:?}: {said}");
        assert!(said.contains("api.acme.test: it uses the proxy and trusts the CA"), "{said}");
    }
}

#[tokio::test]
async fn python_with_the_proxy_turned_off() {
    let [id, message, hint] = failed(&["python3", "-c", PROXY_TURNED_OFF], NO_FILE).await;
    assert_eq!(id, "proxy");
    assert!(message.starts_with("it made no connection to the proxy"), "{message}");
    assert_eq!(hint, "`ProxyHandler({})` turns the proxy variables off: leave it out");
}

#[tokio::test]
async fn requests_with_a_ca_file_of_its_own() {
    let python = installed("real-venv/bin/python").display().to_string();
    let [id, message, hint] = failed(&[&python, "app.py"], ("app.py", OWN_CA_FILE)).await;
    assert_eq!(id, "tls");
    assert_eq!(message, "api.acme.test: it does not trust the CA (UnknownCA)");
    let expected = "certifi's file does not hold the CA: leave `certifi.where()` out, or put \
                    `os.environ[\"SSL_CERT_FILE\"]` in its place";
    assert_eq!(hint, expected);
}

#[tokio::test]
async fn http2_of_node() {
    let [id, _, hint] = failed(&["node", "-e", HTTP2], NO_FILE).await;
    assert_eq!(id, "proxy");
    let expected = "`http2.connect` opens a socket of its own: give it one through the proxy with \
                    `createConnection`";
    assert_eq!(hint, expected);
}

#[tokio::test]
async fn java_without_our_options() {
    let program = ["env", "-u", "JAVA_TOOL_OPTIONS", "java", "Get.java", "https://api.acme.test/a"];
    let [id, message, hint] = failed(&program, ("Get.java", JAVA)).await;
    assert_eq!(id, "proxy");
    assert!(message.contains("JAVA_TOOL_OPTIONS does not reach `java`"), "{message}");
    let expected = "add to it where it is set, instead of replacing it: \
                    `JAVA_TOOL_OPTIONS=\"$JAVA_TOOL_OPTIONS …\"`";
    assert_eq!(hint, expected);
}

#[tokio::test]
async fn java_without_an_authenticator() {
    let program = ["java", "Get.java", "https://api.acme.test/a"];
    let [id, _, hint] = failed(&program, ("Get.java", JAVA)).await;
    assert_eq!(id, "auth");
    let expected = "Java takes no proxy credentials from options: give the program an \
                    `Authenticator`, or the agent a listener of its own: `listen: { agents: [{ \
                    agent: default, at: \"127.0.0.1:8090\", unsafe_no_auth: true }] }`";
    assert_eq!(hint, expected);
}

#[tokio::test]
async fn git_with_a_proxy_in_its_file() {
    let config = "[http]\n\tproxy = http://127.0.0.1:1\n";
    let program = ["git", "ls-remote", "https://api.acme.test/a.git"];
    let [id, message, hint] = failed(&program, (".gitconfig", config)).await;
    assert_eq!(id, "proxy");
    assert!(message.contains("HOME/.gitconfig:2 sets `http.proxy`"), "{message}");
    assert_eq!(hint, "remove line 2 of HOME/.gitconfig");
}

#[tokio::test]
async fn npm_with_a_proxy_in_its_file() {
    let program = ["npm", "view", "left-pad", "--fetch-retries=0"];
    let npmrc = (".npmrc", "https-proxy=http://127.0.0.1:1\n");
    let [id, message, hint] = failed(&program, npmrc).await;
    assert_eq!(id, "proxy");
    assert!(message.contains("HOME/.npmrc:1 sets `https-proxy`"), "{message}");
    assert_eq!(hint, "remove line 1 of HOME/.npmrc");
}

#[tokio::test]
async fn curl_with_roots_in_its_file() {
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
