//! `GET /ca` of the TCP listener: the gateway, its CA, and how systems and programs trust it. It is public, so it names
//! no agent, no connection and no file of the gateway.

use axum::Router;
use axum::extract::{Extension, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};

use super::health;
use super::host::Arrival;
use super::html::HtmlPage;
use super::state::Admin;
use crate::handler::get;
use keyward_base::codes::ERRORS_PATH;

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/ca", get(home))
}

async fn home(
    State(admin): State<Admin>,
    arrival: Option<Extension<Arrival>>,
    headers: HeaderMap,
) -> Response {
    let is_tls = arrival.is_some_and(|Extension(arrival)| arrival.is_tls);
    let base = base(&admin.deps().public_url, if is_tls { "https" } else { "http" }, &headers);
    let page = overview(&admin);
    let page = authority(page, &admin);
    let page = programs(systems(page, &base), &base);
    let page = page
        .heading("Use it")
        .code(&[
            "keyward connect                  # add an account, step by step",
            "keyward run --agent NAME -- CMD  # run a program through this gateway",
            "keyward doctor -- CMD            # find out why a program does not work",
        ])
        .text("`keyward --help` lists all commands, and `keyward man` prints the manual.")
        .links(&[("What each error means", ERRORS_PATH)]);
    page.answer(StatusCode::OK)
}

/// The URL at which the reader reached this page. `Host` was checked.
fn base(public_url: &str, scheme: &str, headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_public = |host: &&str| {
        let rest = public_url.split_once("://").map_or("", |(_, rest)| rest);
        rest.split('/').next() == Some(*host)
    };
    match host {
        Some(host) if !is_public(&host) => format!("{scheme}://{host}"),
        _ => public_url.to_owned(),
    }
}

fn overview(admin: &Admin) -> HtmlPage {
    let page = HtmlPage::new("Keyward").text(
        "This is a Keyward gateway: a forward proxy that gives programs API access without giving them credentials.",
    );
    let word = health::word(admin);
    let page = page.state("State", word == health::READY, word);
    let page = page.fact("Version", env!("CARGO_PKG_VERSION"));
    let proxy = admin.locations().map(|at| &*at.proxy).unwrap_or_default();
    // The path of a unix socket is a file of the gateway.
    let tcp: Vec<_> = proxy.iter().filter(|at| !at.starts_with("unix:")).map(proxy_url).collect();
    match tcp.is_empty() {
        true => page.fact("Proxy", "a unix socket on the gateway's machine"),
        false => page.code_fact("Proxy", &tcp.join(", ")),
    }
}

fn proxy_url(at: &String) -> String {
    if at.starts_with("https://") { at.clone() } else { format!("http://{at}") }
}

fn authority(page: HtmlPage, admin: &Admin) -> HtmlPage {
    let authority = &admin.deps().authority;
    page.heading("Its certificate authority")
        .text(
            "Programs behind the proxy must trust this CA. `keyward run` and `keyward env` set it for single programs, \
             which need none of the steps below.",
        )
        .links(&[
            ("ca.pem", "/ca.pem"),
            ("ca.crt (DER)", "/ca.crt"),
            ("bundle.pem (CA and public roots)", "/bundle.pem"),
        ])
        .code_fact("SHA-256", &authority.fingerprint())
        .fact("Valid until", &format!("{:.0}", authority.expires()))
        .text(
            "Anyone with the key of a trusted CA can read the TLS traffic of the machine. Before you trust this one, \
             compare the fingerprint with the output of `keyward ca show` on the gateway's machine.",
        )
}

/// Steps for the trust stores of systems and browsers.
fn systems(page: HtmlPage, base: &str) -> HtmlPage {
    let get = |file: &str, to: &str| format!("curl -fo {to} {base}/{file}");
    page.heading("Trust it on a system")
        .details("Debian, Ubuntu", |page| {
            let file = "/usr/local/share/ca-certificates/keyward.crt";
            page.code(&[&format!("sudo {}", get("ca.pem", file)), "sudo update-ca-certificates"])
                .text("On the gateway's machine, `sudo keyward ca trust` does the same.")
        })
        .details("Fedora, RHEL, CentOS Stream", |page| {
            let file = "/etc/pki/ca-trust/source/anchors/keyward.pem";
            page.code(&[&format!("sudo {}", get("ca.pem", file)), "sudo update-ca-trust"])
        })
        .details("macOS", |page| {
            page.code(&[
                &get("ca.pem", "keyward.pem"),
                "sudo security add-trusted-cert -d -r trustRoot \\",
                "  -k /Library/Keychains/System.keychain keyward.pem",
            ])
        })
        .details("Windows", |page| {
            page.text("In PowerShell as administrator:").code(&[
                &format!("curl.exe -fo keyward.crt {base}/ca.crt"),
                "Import-Certificate -FilePath keyward.crt `",
                "  -CertStoreLocation Cert:\\LocalMachine\\Root",
            ])
        })
        .details("Firefox", |page| {
            page.text(
                "Settings, Privacy & Security, View Certificates, Authorities, Import: choose ca.pem and tick \
                 \u{201c}Trust this CA to identify websites\u{201d}.",
            )
        })
        .details("Chrome, Chromium", |page| {
            page.text("On macOS and Windows they use the system\u{2019}s store. On Linux, with `libnss3-tools`:").code(&[
                &get("ca.pem", "keyward.pem"),
                "certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n Keyward -i keyward.pem",
            ])
        })
}

/// Steps for programs that have a trust store of their own.
fn programs(page: HtmlPage, base: &str) -> HtmlPage {
    page.heading("Trust it in one program")
        .details("curl, Git, Python, Node.js, by variables", |page| {
            page.code(&[
                &format!("curl -fO {base}/ca.pem -O {base}/bundle.pem"),
                "export CURL_CA_BUNDLE=$PWD/bundle.pem      # curl",
                "export GIT_SSL_CAINFO=$PWD/bundle.pem      # Git",
                "export SSL_CERT_FILE=$PWD/bundle.pem       # OpenSSL, Go, Ruby",
                "export REQUESTS_CA_BUNDLE=$PWD/bundle.pem  # Python",
                "export NODE_EXTRA_CA_CERTS=$PWD/ca.pem     # Node.js",
            ])
            .text("`keyward env --agent NAME` prints these and the proxy\u{2019}s variables for an agent.")
        })
        .details("Java", |page| {
            page.code(&[
                &format!("curl -fo keyward.crt {base}/ca.crt"),
                "sudo keytool -importcert -cacerts -alias keyward -file keyward.crt \\",
                "  -storepass changeit -noprompt",
            ])
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base_at(host: Option<&str>) -> String {
        let mut headers = HeaderMap::new();
        headers.extend(host.map(|host| (header::HOST, host.parse().unwrap())));
        base("https://kw.example.com/keyward", "http", &headers)
    }

    #[test]
    fn commands_name_the_address_that_the_reader_used() {
        assert_eq!(base_at(Some("127.0.0.1:8081")), "http://127.0.0.1:8081");
        assert_eq!(base_at(Some("kw.example.com")), "https://kw.example.com/keyward");
        assert_eq!(base_at(None), "https://kw.example.com/keyward");
    }
}
